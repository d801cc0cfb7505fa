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
kubectl -n tendril create secret generic tendril-token \\
  --from-literal=TENDRIL_API_TOKEN='${token}'
helm install tendril charts/tendril --namespace tendril \\
  --set clusterId='${id}' \\
  --set existingSecret=tendril-token \\
  --set supabase.url='${url}' \\
  --set supabase.key='${anonKey}'`,
    },
    {
      name: "Docker",
      hint: "On any machine with Docker; the volume keeps what an agent must not forget.",
      text: `docker run --detach --name tendril --restart unless-stopped \\
${environment.map(([name, value]) => `  --env ${name}='${value}' \\`).join("\n")}
  --env TENDRIL_STATE_DIR=/state --volume tendril-state:/state \\
  tendril-rt`,
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
