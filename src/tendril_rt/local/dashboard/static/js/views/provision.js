/** One run: its steps, its terminal, what it came to, and how to stop it. */

import { ask, toast } from "../dialog.js";
import { button, empty, field, h, reconcile, setAttribute, setText } from "../dom.js";
import { keepFresh } from "../fresh.js";
import { LogPanel } from "../log_panel.js";
import { badge, eachSecond, operationWord, runSeconds } from "../parts.js";
import { href } from "../router.js";
import { stepsOf } from "../steps.js";
import { ago, duration, moment } from "../time.js";
import { factsPart, troublePart } from "./provision_facts.js";

const STEP_WORDS = { template: "Template", init: "Init", cost: "Cost", plan: "Plan", apply: "Apply" };
const STATE_WORDS = {
  waiting: "waiting",
  running: "running",
  done: "done",
  failed: "failed",
  skipped: "not run",
};

/** @param {import("../main.js").Context} context */
export function showProvision(context, id) {
  const { api, clock, live, main, report, signal, title } = context;
  let run = null;
  let lease = null;
  let lines = [];
  let names = null;
  const state = badge("QUEUED");
  const crumb = h("a", { class: "crumb", href: href("clusters") }, "Clusters");
  const heading = h("h1", {}, " ");
  const about = h("p", { class: "muted summary" }, " ");
  const cancel = button("Cancel", () => askCancel(), { hidden: true });
  const force = button("Force", () => askForce(), { kind: "danger", hidden: true });
  const steps = h("ol", { class: "steps", "aria-label": "Steps" });
  const trouble = troublePart();
  const facts = factsPart();
  const panel = new LogPanel(context, id);
  main.append(
    crumb,
    h(
      "div",
      { class: "heading" },
      h("div", {}, h("div", { class: "heading-line" }, heading, state.element), about),
      h("div", { class: "actions" }, cancel, force),
    ),
    steps,
    trouble.element,
    h("div", { class: "columns run-columns" }, h("div", { class: "wide" }, panel.element), facts.element),
  );

  async function load() {
    const [row, held] = await Promise.all([api.provision(id), api.lease(id)]);
    if (!row) {
      main.replaceChildren(
        empty(
          "There is no such provision",
          h("p", {}, "It may belong to somebody else, or the address is not whole."),
          h("a", { class: "button", href: href("clusters") }, "All clusters"),
        ),
      );
      return;
    }
    const isNewAttempt = run?.attempt !== row.attempt;
    const hasEnded = row.completed_at && !run?.completed_at;
    [run, lease] = [row, held];
    names ??= await namesOf(row);
    if ((isNewAttempt || hasEnded) && row.attempt > 0) {
      lines = systemLinesOf(await api.systemLines(id, row.attempt));
    }
    show();
    if (!signal.aborted) {
      await panel.open(row.attempt);
    }
    panel.expectAttempt(row.attempt);
    await panel.catchUp();
  }

  async function namesOf(row) {
    const [cluster, configuration] = await Promise.all([
      api.cluster(row.cluster_id),
      row.configuration_id ? api.configuration(row.configuration_id) : null,
    ]);
    return {
      cluster: cluster?.name ?? "a cluster",
      configuration: configuration?.name ?? `Provision ${id.slice(0, 8)}`,
    };
  }

  function show() {
    title(`${names.configuration}: ${run.status.toLowerCase()}`);
    crumb.href = href("clusters", run.cluster_id);
    setText(crumb, names.cluster);
    setText(heading, names.configuration);
    state.update(run.status);
    const isOver = Boolean(run.completed_at);
    cancel.hidden = isOver || Boolean(run.cancel_requested_at);
    force.hidden =
      isOver || !run.cancel_requested_at || Boolean(run.force_cancel_requested_at) || run.status === "QUEUED";
    trouble.show(run, lease, clock);
    facts.show(run, names);
    tick();
  }

  function tick() {
    if (!run) {
      return;
    }
    const parts = [operationWord(run.operation)];
    if (run.status === "QUEUED") {
      parts.push(`queued ${ago(clock.age(run.created_at))}`);
    } else if (run.started_at) {
      parts.push(
        run.completed_at
          ? `took ${duration(runSeconds(run, clock))}`
          : `running for ${duration(Math.floor(runSeconds(run, clock)))}`,
      );
      parts.push(`started ${ago(clock.age(run.started_at))}`);
    }
    if (run.attempt > 1) {
      parts.push(`attempt ${run.attempt} of ${run.max_attempts}`);
    }
    if (run.cancel_requested_at && !run.completed_at) {
      parts.push(run.force_cancel_requested_at ? "being stopped by force" : "being cancelled");
    }
    setText(about, parts.join(" · "));
    about.title = moment(run.created_at);
    showSteps();
    trouble.tick(clock);
  }

  function showSteps() {
    reconcile(
      steps,
      stepsOf(run, lines),
      ({ name }) => name,
      ({ name }) => {
        const [word, time] = [
          h("span", { class: "step-name" }, STEP_WORDS[name] ?? name),
          h("span", { class: "step-time" }),
        ];
        const spoken = h("span", { class: "hidden" });
        return {
          element: h("li", {}, h("i", { "aria-hidden": "true" }), word, time, spoken),
          update(step) {
            const seconds =
              step.state === "running" ? Math.floor(clock.age(step.startedAt) ?? 0) : step.seconds;
            setAttribute(word.parentElement, "data-state", step.state);
            setText(spoken, STATE_WORDS[step.state]);
            setText(time, seconds === null ? "" : duration(seconds));
          },
        };
      },
    );
  }

  async function askCancel() {
    const isRunning = run.status === "PROCESSING";
    const done = await ask({
      title: "Cancel this run?",
      action: "Cancel the run",
      kind: "danger",
      body: [
        h(
          "p",
          {},
          isRunning
            ? "Terraform is interrupted once and finishes what it is doing, so its state stays " +
              "whole. That can take some minutes."
            : "It has not begun: it is cancelled at once.",
        ),
      ],
      submit: () => api.cancel(id, false),
    });
    if (done) {
      toast(done.status === "CANCELLED" ? "Cancelled" : "Asked the agent to stop");
      refresh();
    }
  }

  async function askForce() {
    const typed = h("input", { autocomplete: "off", spellcheck: "false" });
    const done = await ask({
      title: "Stop by force?",
      action: "Stop by force",
      kind: "danger",
      body: [
        h(
          "p",
          {},
          "A second interrupt makes Terraform exit ",
          h("strong", {}, "without saving its state"),
          ": resources may exist that it no longer knows, and the state may stay locked. " +
            "Wait for the graceful stop if you can.",
        ),
        field("Type “force” to confirm", typed),
      ],
      canSubmit: () => typed.value.trim().toLowerCase() === "force",
      submit: () => api.cancel(id, true),
    });
    if (done) {
      refresh();
    }
  }

  function take({ table, new: row, commit_timestamp: committedAt }) {
    clock.observe(committedAt);
    if (table !== "provision_logs") {
      return false;
    }
    if (row.log_chunk === undefined) {
      panel.catchUp(); // too large for the socket
    } else {
      panel.offer(row);
      if (row.stream_type === "SYSTEM" && run && row.attempt === run.attempt) {
        lines = [...lines, ...systemLinesOf([row])];
        tick();
      }
    }
    return true;
  }

  const refresh = keepFresh({
    load,
    live,
    signal,
    onResult: report,
    onEvent: take,
    bindings: [
      { table: "provisions", event: "UPDATE", filter: `id=eq.${id}` },
      { table: "provision_logs", event: "INSERT", filter: `provision_id=eq.${id}` },
    ],
  });
  eachSecond(tick, signal);
}

function systemLinesOf(rows) {
  return rows.flatMap((row) =>
    row.log_chunk
      .split("\n")
      .filter(Boolean)
      .map((text) => ({ text, at: row.created_at })),
  );
}
