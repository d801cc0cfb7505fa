/**
 * What became of each step of a run, from what the agent says of itself. Pure.
 *
 * While it runs the SYSTEM lines of its log are all there is; `execution_metadata` has the figures
 * in the end, and wins.
 */

const BEGUN = /^(cloning .*|infracost|terraform (?:init|plan|apply)) …$/;
const DONE = /^(cloning .*|infracost|terraform (?:init|plan|apply)): done in ([0-9.]+) s$/;
const EXITED = /^terraform (init|plan|apply): exit (-?[0-9]+)$/;

/**
 * @param {object} provision its row
 * @param {{text: string, at: string}[]} lines SYSTEM lines of its newest attempt, in order
 * @returns {{name: string, state: "waiting"|"running"|"done"|"failed"|"skipped", seconds: ?number, startedAt:
 *   ?string}[]}
 */
export function stepsOf(provision, lines) {
  const steps = new Map(
    namesOf(provision).map((name) => [name, { name, state: "waiting", seconds: null, startedAt: null }]),
  );
  const set = (name, change) => steps.set(name, { ...newStep(name), ...steps.get(name), ...change });
  for (const { text, at } of lines) {
    let found;
    if ((found = BEGUN.exec(text))) {
      set(nameOf(found[1]), { state: "running", startedAt: at });
    } else if ((found = DONE.exec(text))) {
      set(nameOf(found[1]), { state: "done", seconds: Number(found[2]) });
    } else if ((found = EXITED.exec(text)) && found[2] !== "0") {
      set(found[1], { state: "failed" });
    }
  }
  for (const { name, exit_code: code, duration_s: seconds } of provision.execution_metadata?.steps ?? []) {
    set(name, { state: code === 0 ? "done" : "failed", seconds });
  }
  return ended(provision, ordered(steps));
}

function namesOf({ operation }) {
  return operation === "PLAN" ? ["template", "init", "plan"] : ["template", "init", "plan", "apply"];
}

function newStep(name) {
  return { name, state: "waiting", seconds: null, startedAt: null };
}

function nameOf(label) {
  if (label.startsWith("cloning ")) {
    return "template";
  }
  return label === "infracost" ? "cost" : label.slice("terraform ".length);
}

function ordered(steps) {
  const order = ["template", "init", "cost", "plan", "apply"];
  return [...steps.values()].sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
}

/** In a run that has ended nothing waits or runs any more. */
function ended(provision, steps) {
  if (!provision.completed_at) {
    return steps;
  }
  const last = { running: provision.status === "SUCCESS" ? "done" : "failed", waiting: "skipped" };
  return steps.map((step) => ({ ...step, state: last[step.state] ?? step.state }));
}
