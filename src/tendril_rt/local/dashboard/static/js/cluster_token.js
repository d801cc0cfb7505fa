/** A cluster's token, shown the one time that it exists in clear, with the commands that use it. */

import { copyable, tell } from "./dialog.js";
import { h } from "./dom.js";

/**
 * @param {{cluster_id: string, token: string}} registration
 * @param {{url: string, anonKey: string}} plane
 */
export function tellToken(registration, plane, title) {
  const tabs = commands(registration, plane);
  const panel = h("div", { role: "tabpanel", id: "command" });
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": "Where the agent runs" });
  const choose = (chosen) => {
    panel.replaceChildren(h("p", { class: "hint" }, chosen.hint), copyable(chosen.text, `${chosen.name} command`));
    for (const tab of list.children) {
      tab.setAttribute("aria-selected", String(tab.textContent === chosen.name));
    }
  };
  for (const one of tabs) {
    list.append(h("button", { type: "button", role: "tab", "aria-controls": "command", onclick: () => choose(one) }, one.name));
  }
  choose(tabs[0]);
  return tell({ title, body: [
    h("p", {}, "This is the agent’s token. It is shown ", h("strong", {}, "only now"), ": the control plane keeps no copy."),
    copyable(registration.token, "token"),
    h("h3", {}, "Start the agent"), list, panel,
  ] });
}

/** The ways to start an agent; pure. */
export function commands({ cluster_id: id, token }, { url, anonKey }) {
  const environment = [
    ["TENDRIL_CLUSTER_ID", id], ["TENDRIL_API_TOKEN", token], ["SUPABASE_URL", url], ["SUPABASE_KEY", anonKey],
  ];
  return [
    { name: "Helm", hint: "In Kubernetes, from the chart in this project’s charts/ folder. The token goes into a Secret of its own.", text:
`kubectl create namespace tendril
kubectl -n tendril create secret generic tendril-token \\
  --from-literal=TENDRIL_API_TOKEN='${token}'
helm install tendril charts/tendril --namespace tendril \\
  --set clusterId='${id}' \\
  --set existingSecret=tendril-token \\
  --set supabase.url='${url}' \\
  --set supabase.key='${anonKey}'` },
    { name: "Docker", hint: "On any machine with Docker; the volume keeps what an agent must not forget.", text:
`docker run --detach --name tendril --restart unless-stopped \\
${environment.map(([name, value]) => `  --env ${name}='${value}' \\`).join("\n")}
  --env TENDRIL_STATE_DIR=/state --volume tendril-state:/state \\
  tendril-rt` },
    { name: "Shell", hint: "Where Python, git and Terraform are. Ctrl-C lets it finish what runs.", text:
`pip install tendril-rt
${environment.map(([name, value]) => `export ${name}='${value}'`).join("\n")}
export TENDRIL_STATE_DIR="$HOME/.local/state/tendril"
tendril run` },
  ];
}
