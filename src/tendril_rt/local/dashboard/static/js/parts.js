/** What several views show: a status, a run in a list, a clock that ticks. */

import { h, setAttribute, setText } from "./dom.js";
import { href } from "./router.js";
import { ago, between, duration, moment } from "./time.js";

const WORDS = {
  QUEUED: "Queued",
  PROCESSING: "Running",
  SUCCESS: "Succeeded",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
  ONLINE: "Online",
  OFFLINE: "Offline",
  PENDING: "Not seen yet",
  DRAINING: "Draining",
};
const OPERATIONS = { APPLY: "Apply", PLAN: "Plan", DESTROY: "Destroy" };

/** The word for a status. */
export function wordFor(status) {
  return WORDS[status] ?? status;
}

/** The word for an operation. */
export function operationWord(operation) {
  return OPERATIONS[operation] ?? operation;
}

/** A coloured word for a status; `update` changes it. */
export function badge(status) {
  const text = h("span", {});
  const element = h("span", { class: "badge" }, h("i", { "aria-hidden": "true" }), text);
  const update = (to) => {
    setAttribute(element, "data-status", to);
    setText(text, wordFor(to));
  };
  update(status);
  return { element, update };
}

/** Call `tick` each second, and once now, until the signal says stop. */
export function eachSecond(tick, signal) {
  const timer = setInterval(() => document.hidden || tick(), 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  tick();
}

/** The seconds that a run takes or took. */
export function runSeconds(run, clock) {
  return between(run.started_at, run.completed_at, clock);
}

/**
 * A run in a list.
 * @param {object} run
 * @param {{clock: object, nameOf: (run: object) => string}} with
 */
export function runRow(run, { clock, nameOf }) {
  const state = badge(run.status);
  const name = h("strong", {});
  const operation = h("span", { class: "muted" });
  const when = h("span", { class: "muted when" });
  const lasted = h("span", { class: "lasted" });
  const code = h("code", { class: "code" });
  const link = h(
    "a",
    { class: "run", href: href("provisions", run.id) },
    state.element,
    h("span", { class: "run-name" }, name, operation, code),
    lasted,
    when,
  );
  const element = h("li", {}, link);
  let shown = run;
  const tick = () => {
    const seconds = runSeconds(shown, clock);
    setText(lasted, shown.status === "QUEUED" ? waiting(shown, clock) : duration(seconds));
    setText(when, ago(clock.age(shown.created_at)));
  };
  return {
    element,
    tick,
    update(to) {
      shown = to;
      state.update(to.status);
      setText(name, nameOf(to));
      setText(operation, operationWord(to.operation));
      setText(code, to.error_code ?? "");
      when.title = moment(to.created_at);
      tick();
    },
  };
}

function waiting(run, clock) {
  const later = (Date.parse(run.not_before) - clock.now()) / 1000;
  return later > 1 ? `again in ${duration(Math.round(later))}` : "waiting";
}

/** Small bars, one per run, oldest first: what the last ones came to. */
export function outcomes(runs) {
  const shown = runs.slice(0, 14).reverse();
  const words = shown.map((run) => wordFor(run.status).toLowerCase());
  return h(
    "span",
    {
      class: "outcomes",
      role: "img",
      "aria-label": words.length ? `Last runs: ${words.join(", ")}` : "No runs yet",
    },
    ...shown.map((run) => h("i", { "data-status": run.status })),
  );
}
