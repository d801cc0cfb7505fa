/** One cluster: what waits, runs and ran there; its agents, its options, its tokens. */

import { deploy } from "../deploy.js";
import { button, empty, h, reconcile, setText } from "../dom.js";
import { keepFresh } from "../fresh.js";
import { badge, eachSecond, runRow } from "../parts.js";
import { href } from "../router.js";
import { ago, clusterStatus } from "../time.js";
import { agentsPart, optionsPart, tokensPart } from "./cluster_side.js";

const HISTORY_ROWS = 25;

/** @param {import("../main.js").Context} context */
export function showCluster(context, id) {
  const { api, clock, live, main, report, signal, title } = context;
  const names = new Map();
  let configurations = [];
  let wanted = HISTORY_ROWS;
  let cluster = null;
  const state = badge("PENDING");
  const heading = h("h1", {}, " ");
  const beat = h("span", {});
  const queue = runList("Nothing waits or runs.");
  const history = runList("Nothing ran here yet. Deploy a configuration, and watch it.");
  const more = button(
    "Show older runs",
    () => {
      wanted += HISTORY_ROWS;
      refresh();
    },
    { kind: "quiet" },
  );
  const options = optionsPart(context, id, () => refresh());
  const agents = agentsPart(clock);
  const tokens = tokensPart(context, id, () => refresh());
  main.append(
    h("a", { class: "crumb", href: href("clusters") }, "Clusters"),
    h(
      "div",
      { class: "heading" },
      h(
        "div",
        {},
        h("div", { class: "heading-line" }, heading, state.element),
        h("p", { class: "muted summary" }, "Last heartbeat ", beat),
      ),
      button("Deploy", () => startDeploy(), { kind: "primary", iconName: "play" }),
    ),
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "wide" },
        h(
          "section",
          { class: "card", "aria-labelledby": "queue-title" },
          h("h2", { id: "queue-title" }, "Queue and running"),
          queue.element,
        ),
        h(
          "section",
          { class: "card", "aria-labelledby": "history-title" },
          h("h2", { id: "history-title" }, "History"),
          history.element,
          more,
        ),
      ),
      h("div", { class: "narrow" }, agents.element, options.element, tokens.element),
    ),
  );

  function runList(nothing) {
    const list = h("ul", { class: "rows" });
    const none = h("p", { class: "muted none" }, nothing);
    return {
      element: h("div", {}, list, none),
      list,
      show(runs) {
        none.hidden = runs.length > 0;
        reconcile(
          list,
          runs,
          (run) => run.id,
          (run) => runRow(run, { clock, nameOf }),
        );
      },
    };
  }

  function nameOf(run) {
    return names.get(run.configuration_id) ?? `Provision ${run.id.slice(0, 8)}`;
  }

  async function load() {
    const [row, active, ended, all, agentRows, tokenRows] = await Promise.all([
      api.cluster(id),
      api.active(id),
      api.history(id, wanted + 1, 0),
      api.configurations(),
      api.agents(id),
      api.tokens(id),
    ]);
    if (!row) {
      main.replaceChildren(
        empty(
          "There is no such cluster",
          h("p", {}, "It may belong to somebody else, or the address is not whole."),
          h("a", { class: "button", href: href("clusters") }, "All clusters"),
        ),
      );
      return;
    }
    cluster = row;
    configurations = all.filter((one) => one.cluster_id === id);
    all.forEach((one) => names.set(one.id, one.name));
    title(row.name);
    setText(heading, row.name);
    active.sort((a, b) => (a.status === b.status ? a.seq - b.seq : a.status === "PROCESSING" ? -1 : 1));
    queue.show(active);
    history.show(ended.slice(0, wanted));
    more.hidden = ended.length <= wanted;
    options.show(row);
    agents.show(agentRows);
    tokens.show(tokenRows);
    tick();
  }

  function tick() {
    if (cluster) {
      state.update(clusterStatus(cluster, clock));
      setText(beat, ago(clock.age(cluster.last_heartbeat)));
    }
    for (const list of [queue.list, history.list]) {
      for (const part of list.reconciled?.values() ?? []) {
        part.tick();
      }
    }
  }

  function startDeploy() {
    if (configurations.length) {
      deploy(context, configurations, { title: `Deploy to ${cluster.name}` });
    } else {
      location.hash = `${href("configurations", "new")}?cluster=${id}`;
    }
  }

  function take({ table, eventType, new: row, commit_timestamp: committedAt }) {
    clock.observe(committedAt);
    if (
      table === "clusters" &&
      eventType === "UPDATE" &&
      cluster &&
      row.status === cluster.status &&
      row.drain === cluster.drain &&
      row.max_concurrency === cluster.max_concurrency
    ) {
      Object.assign(cluster, row);
      tick();
      return true;
    }
    return false;
  }

  const refresh = keepFresh({
    load,
    live,
    signal,
    onResult: report,
    onEvent: take,
    bindings: [
      { table: "clusters", filter: `id=eq.${id}` },
      { table: "provisions", filter: `cluster_id=eq.${id}` },
    ],
  });
  eachSecond(tick, signal);
}
