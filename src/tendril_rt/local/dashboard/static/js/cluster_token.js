/** A cluster's token, shown the one time that it exists in clear, with the commands that use it. */

import { commands } from "./cluster_commands.js";
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
    panel.replaceChildren(
      h("p", { class: "hint" }, chosen.hint),
      copyable(chosen.text, `${chosen.name} command`),
    );
    for (const tab of list.children) {
      tab.setAttribute("aria-selected", String(tab.textContent === chosen.name));
    }
  };
  for (const one of tabs) {
    list.append(
      h(
        "button",
        { type: "button", role: "tab", "aria-controls": "command", onclick: () => choose(one) },
        one.name,
      ),
    );
  }
  choose(tabs[0]);
  return tell({
    title,
    body: [
      h(
        "p",
        {},
        "This is the agent’s token. It is shown ",
        h("strong", {}, "only now"),
        ": the control plane keeps no copy.",
      ),
      copyable(registration.token, "token"),
      h("h3", {}, "Start the agent"),
      list,
      panel,
    ],
  });
}
