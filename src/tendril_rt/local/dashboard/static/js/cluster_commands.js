/** The commands that start an agent with a cluster's token. Pure. */

/**
 * The ways to start an agent.
 * @param {{cluster_id: string, token: string}} registration
 * @param {{url: string, anonKey: string}} plane
 */
export function commands({ cluster_id: id, token }, { url, anonKey }) {
  const environment = [
    ["TENDRIL_CLUSTER_ID", id],
    ["TENDRIL_API_TOKEN", token],
    ["SUPABASE_URL", url],
    ["SUPABASE_KEY", anonKey],
  ];
  return [
    {
      name: "Helm",
      hint: "In Kubernetes, from the chart in this project’s charts/ folder. The token goes into a Secret of its own.",
      text: `kubectl create namespace tendril
kubectl --namespace tendril create secret generic tendril \\
  --from-literal=token='${token}' \\
  --from-literal=api-key='${anonKey}'
helm install tendril charts/tendril --namespace tendril \\
  --set cluster.id='${id}' \\
  --set controlPlane.url='${url}' \\
  --set existingSecret=tendril`,
    },
    {
      name: "Docker",
      hint: "On any machine with Docker; the volume keeps what an agent must not forget.",
      text: `docker run --detach --name tendril --restart unless-stopped --stop-timeout 1800 \\
${environment.map(([name, value]) => `  --env ${name}='${value}' \\`).join("\n")}
  --volume tendril:/var/lib/tendril \\
  tendril`,
    },
    {
      name: "Shell",
      hint: "Where Python, git and Terraform are. Ctrl-C lets it finish what runs.",
      text: `pip install tendril-rt
${environment.map(([name, value]) => `export ${name}='${value}'`).join("\n")}
export TENDRIL_STATE_DIR="$HOME/.local/state/tendril"
tendril run`,
    },
  ];
}
