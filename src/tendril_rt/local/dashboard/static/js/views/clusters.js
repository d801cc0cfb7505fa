/** All clusters: do they live, what do they do, and how to add one. */

import { tellToken } from "../cluster_token.js";
import { ask } from "../dialog.js";
import { button, empty, field, h, reconcile, setAttribute, setText } from "../dom.js";
import { keepFresh } from "../fresh.js";
import { badge, eachSecond, outcomes } from "../parts.js";
import { href } from "../router.js";
import { ago, clusterStatus } from "../time.js";

const RECENT_RUNS = 500;
const LOADS_APART_MS = 1000; // any run of any cluster is a reason to look
const ORDER = ["ONLINE", "OFFLINE", "PENDING"];

/** @param {import("../main.js").Context} context */
export function showClusters(context) {
  const { api, clock, live, main, report, signal, title } = context;
  title("Clusters");
  const clusters = new Map();
  let details = { agents: new Map(), depths: new Map(), runs: new Map() };
  const summary = h("p", { class: "muted summary" }, " ");
  const list = h("ul", { class: "cards" });
  const nothing = h(
    "div",
    { hidden: true },
    empty(
      "No cluster yet",
      h(
        "p",
        {},
        "A cluster is a place where an agent runs Terraform for you: Kubernetes, a server, this machine.",
      ),
      button("Add your first cluster", () => add(), { kind: "primary", iconName: "plus" }),
    ),
  );
  main.append(
    h(
      "div",
      { class: "heading" },
      h("div", {}, h("h1", {}, "Clusters"), summary),
      button("Add a cluster", () => add(), { kind: "primary", iconName: "plus" }),
    ),
    nothing,
    list,
  );

  async function load() {
    const [rows, agents, depths, runs] = await Promise.all([
      api.clusters(),
      api.agents(),
      api.queueDepths(),
      api.recent(RECENT_RUNS),
    ]);
    clusters.clear();
    rows.forEach((row) => clusters.set(row.id, row));
    details = {
      agents: Map.groupBy ? Map.groupBy(agents, (agent) => agent.cluster_id) : grouped(agents),
      depths: new Map(depths.map((depth) => [depth.cluster_id, depth])),
      runs: grouped(runs),
    };
    show();
  }

  function show() {
    const rows = [...clusters.values()];
    const statusOf = (row) => clusterStatus(row, clock);
    const count = (status) => rows.filter((row) => statusOf(row) === status).length;
    const words = [
      [count("ONLINE"), "online"],
      [count("OFFLINE"), "offline"],
      [count("PENDING"), "not seen yet"],
    ];
    setText(
      summary,
      rows.length
        ? words
            .filter(([n]) => n)
            .map(([n, word]) => `${n} ${word}`)
            .join(" · ")
        : " ",
    );
    nothing.hidden = rows.length > 0;
    rows.sort(
      (a, b) => ORDER.indexOf(statusOf(a)) - ORDER.indexOf(statusOf(b)) || a.name.localeCompare(b.name),
    );
    reconcile(
      list,
      rows,
      (row) => row.id,
      (row) => card(row, clock, details),
    );
    reconcileDetails();
  }

  function reconcileDetails() {
    for (const [id, part] of list.reconciled ?? []) {
      part.detail(details.agents.get(id) ?? [], details.depths.get(id), details.runs.get(id) ?? []);
    }
  }

  /** A heartbeat changes one row; anything else is looked up. */
  function take({ table, eventType, new: row, commit_timestamp: committedAt }) {
    clock.observe(committedAt);
    if (table !== "clusters" || eventType !== "UPDATE" || !clusters.has(row.id)) {
      return false;
    }
    const before = clusters.get(row.id);
    clusters.set(row.id, { ...before, ...row });
    const part = list.reconciled?.get(row.id);
    if (before.status !== row.status) {
      show();
    } else if (part) {
      part.update(clusters.get(row.id));
      part.beat();
    }
    return before.status === row.status;
  }

  async function add() {
    const name = h("input", {
      required: true,
      maxlength: "100",
      placeholder: "production-eu",
      autocomplete: "off",
    });
    const concurrency = h("input", { type: "number", min: "1", max: "1000", value: "1", inputmode: "numeric" });
    const registration = await ask({
      title: "Add a cluster",
      action: "Add",
      body: [
        field("Name", name, "For people; it can be anything."),
        field("Runs at once", concurrency, "How many provisions may run there at the same time."),
      ],
      canSubmit: () => name.value.trim() !== "" && concurrency.validity.valid,
      submit: () => api.registerCluster(name.value.trim(), Number(concurrency.value)),
    });
    if (registration) {
      refresh();
      await tellToken(registration, context.session.plane, "Your cluster is registered");
    }
  }

  const refresh = keepFresh({
    load,
    live,
    signal,
    onResult: report,
    onEvent: take,
    gatherMs: LOADS_APART_MS,
    bindings: [{ table: "clusters" }, { table: "provisions" }],
  });
  eachSecond(() => {
    for (const part of list.reconciled?.values() ?? []) {
      part.tick();
    }
  }, signal);
}

function grouped(rows) {
  const groups = new Map();
  for (const row of rows) {
    groups.get(row.cluster_id)?.push(row) ?? groups.set(row.cluster_id, [row]);
  }
  return groups;
}

/** One cluster. */
function card(row, clock) {
  const state = badge(row.status);
  const name = h("strong", { class: "card-name" });
  const beat = h("span", { class: "beat" });
  const pulse = h("span", { class: "pulse", "aria-hidden": "true" });
  const agents = h("span", { class: "fact" });
  const queue = h("span", { class: "fact" });
  const bars = h("span", { class: "bars" });
  const drain = h("span", { class: "tag", hidden: true }, "Draining");
  const link = h(
    "a",
    { class: "card cluster", href: href("clusters", row.id) },
    h("span", { class: "card-head" }, pulse, name, drain, state.element),
    h("span", { class: "card-beat" }, "Last heartbeat ", beat),
    h("span", { class: "card-facts" }, agents, queue),
    bars,
  );
  let shown = row;
  let shownRuns = "";
  const tick = () => {
    const status = clusterStatus(shown, clock);
    setText(beat, ago(clock.age(shown.last_heartbeat)));
    state.update(status);
    setAttribute(link, "data-status", status);
  };
  return {
    element: h("li", {}, link),
    tick,
    update(to) {
      shown = to;
      setText(name, to.name);
      drain.hidden = !to.drain;
      tick();
    },
    /** Let the pulse be seen once. */
    beat() {
      pulse.classList.remove("beating");
      requestAnimationFrame(() => pulse.classList.add("beating"));
    },
    detail(all, depth, runs) {
      const up = all.filter((agent) => agent.state !== "OFFLINE");
      setText(agents, agentWords(up, all.length));
      setText(
        queue,
        depth ? `${depth.queued} queued · ${depth.running} of ${depth.max_concurrency} running` : "",
      );
      const key = runs
        .slice(0, 14)
        .map((run) => run.id + run.status)
        .join();
      if (key !== shownRuns || !bars.firstChild) {
        shownRuns = key;
        bars.replaceChildren(outcomes(runs));
      }
    },
  };
}

function agentWords(up, known) {
  if (!up.length) {
    return known ? "No agent online" : "No agent yet";
  }
  const versions = [...new Set(up.map((agent) => agent.version).filter(Boolean))].slice(0, 2);
  const capacity = up.reduce((sum, agent) => sum + (agent.capacity ?? 0), 0);
  return [`${up.length} agent${up.length > 1 ? "s" : ""}`, versions.join(", "), `capacity ${capacity}`]
    .filter(Boolean)
    .join(" · ");
}
