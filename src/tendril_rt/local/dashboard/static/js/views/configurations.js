/** All configurations: what is meant to exist, and where. */

import { button, empty, h, reconcile, setText } from "../dom.js";
import { keepFresh } from "../fresh.js";
import { badge } from "../parts.js";
import { href } from "../router.js";
import { ago } from "../time.js";

/** @param {import("../main.js").Context} context */
export function showConfigurations({ api, clock, live, main, report, signal, title }) {
  title("Configurations");
  const list = h("ul", { class: "rows card" });
  const add = () =>
    button(
      "New configuration",
      () => {
        location.hash = href("configurations", "new");
      },
      { kind: "primary", iconName: "plus" },
    );
  const nothing = h(
    "div",
    { hidden: true },
    empty(
      "No configuration yet",
      h(
        "p",
        {},
        "A configuration names a template, its version and its variables. Deploy it as often as you like.",
      ),
      add(),
    ),
  );
  main.append(h("div", { class: "heading" }, h("h1", {}, "Configurations"), add()), nothing, list);

  async function load() {
    const [configurations, clusters, runs] = await Promise.all([
      api.configurations(),
      api.clusters(),
      api.recent(500),
    ]);
    const nameOf = new Map(clusters.map(({ id, name }) => [id, name]));
    nothing.hidden = configurations.length > 0;
    list.hidden = configurations.length === 0;
    reconcile(
      list,
      configurations,
      ({ id }) => id,
      ({ id }) => {
        const state = badge("QUEUED");
        const [name, where, when] = [
          h("strong", {}),
          h("span", { class: "muted" }),
          h("span", { class: "muted when" }),
        ];
        const element = h(
          "li",
          {},
          h(
            "a",
            { class: "run", href: href("configurations", id) },
            h("span", { class: "run-name" }, name, where),
            state.element,
            when,
          ),
        );
        return {
          element,
          update(row) {
            const last = runs.find((run) => run.configuration_id === row.id);
            setText(name, row.name);
            setText(where, `on ${nameOf.get(row.cluster_id) ?? "a cluster that is gone"}`);
            setText(when, last ? `last run ${ago(clock.age(last.created_at))}` : "never deployed");
            state.element.hidden = !last;
            state.update(last?.status ?? "QUEUED");
          },
        };
      },
    );
  }

  keepFresh({ load, live, signal, onResult: report, bindings: [{ table: "provisions" }] });
}
