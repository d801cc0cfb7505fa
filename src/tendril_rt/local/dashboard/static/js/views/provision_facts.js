/** What a run came to: changes, cost, outputs, and what to do where it failed. */

import { copyable } from "../dialog.js";
import { h, setText } from "../dom.js";
import { href } from "../router.js";
import { duration, moment } from "../time.js";

const CURES = {
  INVALID_CONFIG: "Correct the configuration and deploy it again.",
  SIGNATURE_REFUSED: "The agent runs signed provisions only: sign this one, or deploy with grape.",
  TEMPLATE_UNAVAILABLE: "Check the repository, the version, and that the agent’s git credentials may read it.",
  WORKSPACE_FAILED: "Check permissions and free space of the agent’s workspace directory.",
  TERRAFORM_FAILED: "Read the first error in the log, correct the template or its variables, deploy again.",
  STEP_TIMEOUT: "Raise the agent’s time limit, or the configuration’s own timeouts.",
  PROCESS_LOST: "Look after memory and the host of the agent; see the advice on the state lock.",
  AGENT_RESTARTED: "Compare the real state, follow the advice on the state lock, deploy again.",
  AGENT_SHUTDOWN: "Deploy again; the next plan shows what is left to do.",
  CONTROL_PLANE_LOST: "Nothing was changed. Deploy again.",
  AGENT_LOST: "Nothing was changed. Look after the agent’s host, then deploy again.",
  AGENT_LOST_DURING_APPLY: "Compare the real state, check the state lock, then deploy again.",
  SPOOL_FAILED: "Nothing was run. Check permissions and free space of the agent’s state directory.",
};
const LOCKS = {
  HELD_BY_LIVE_ATTEMPT: "The state lock is held by a run that is alive. Wait for it.",
  ORPHANED: "The state lock was left behind by a run that is dead. It is safe to clear.",
  UNKNOWN: "Who holds the state lock cannot be proven. Make sure that nobody works on it before you clear it.",
};

/** Why it failed or waits, and the cure. */
export function troublePart() {
  const element = h("section", { class: "trouble card", hidden: true, "aria-label": "What happened" });
  let silentSince = null;
  const silence = h("p", { class: "silence" });
  return {
    element,
    show(run, lease, clock) {
      silentSince =
        run.status === "PROCESSING" && lease && clock.age(lease.expires_at) > 0 ? lease.expires_at : null;
      const parts = [];
      if (silentSince) {
        parts.push(
          h("h2", {}, "The agent is silent"),
          silence,
          h(
            "p",
            { class: "muted" },
            lease.phase === "APPLY"
              ? "It may still be applying, so nobody else takes over. When it returns, its log and outcome arrive."
              : "It has changed nothing yet. The run goes back to the queue on its own.",
          ),
        );
      }
      if (run.status === "FAILED") {
        parts.push(
          h("h2", {}, "Failed ", h("code", {}, run.error_code ?? "")),
          h(
            "pre",
            { class: "error-text", tabindex: "0", "aria-label": "Error message" },
            run.error_message ?? "",
          ),
        );
        if (CURES[run.error_code]) {
          parts.push(h("p", { class: "cure" }, h("strong", {}, "What to do: "), CURES[run.error_code]));
        }
      } else if (run.status === "CANCELLED" && run.error_message) {
        parts.push(
          h("h2", {}, "Cancelled"),
          h("pre", { class: "error-text", tabindex: "0", "aria-label": "What was said" }, run.error_message),
        );
      }
      parts.push(...lockAdvice(run.execution_metadata?.lock));
      element.hidden = parts.length === 0;
      element.dataset.kind = run.status;
      const key = JSON.stringify([run.status, run.error_message, silentSince, run.execution_metadata?.lock]);
      if (element.dataset.key !== key) {
        element.dataset.key = key;
        element.replaceChildren(...parts);
      }
      this.tick(clock);
    },
    tick(clock) {
      setText(
        silence,
        silentSince
          ? `Nothing was heard of it for ${duration(Math.floor(clock.age(silentSince)))} more than its lease allows.`
          : "",
      );
    },
  };
}

function lockAdvice(lock) {
  if (!lock) {
    return [];
  }
  return [
    h("h2", {}, "State lock"),
    h("p", {}, LOCKS[lock.state] ?? lock.state),
    h("p", { class: "muted" }, lock.reason),
    copyable(lock.command, "command"),
  ];
}

/** What is known beside the log. */
export function factsPart() {
  const element = h("aside", { class: "narrow", "aria-label": "Facts" });
  return {
    element,
    show(run, names) {
      const key = JSON.stringify([run.execution_metadata, run.status, run.attempt]);
      if (element.dataset.key !== key) {
        element.dataset.key = key;
        element.replaceChildren(...cards(run, names));
      }
    },
  };
}

function cards(run, names) {
  const facts = run.execution_metadata ?? {};
  return [
    resources(run, facts.resources),
    cost(facts.cost),
    outputs(facts.outputs),
    rest(run, facts, names),
  ].filter(Boolean);
}

function resources(run, counts) {
  if (!counts) {
    return null;
  }
  const isDone = run.status === "SUCCESS" && run.operation !== "PLAN";
  const shown = [
    ["add", "+", isDone ? "added" : "to add"],
    ["change", "~", isDone ? "changed" : "to change"],
    ["destroy", "−", isDone ? "destroyed" : "to destroy"],
    ["import", "↓", isDone ? "imported" : "to import"],
  ];
  return h(
    "section",
    { class: "card" },
    h("h2", {}, isDone ? "Changes" : "Plan"),
    h(
      "div",
      { class: "counts" },
      shown
        .filter(([name]) => counts[name] !== undefined)
        .map(([name, sign, word]) =>
          h(
            "span",
            { class: `count ${name}`, "data-zero": counts[name] === 0 },
            h("b", {}, `${sign}${counts[name]}`),
            word,
          ),
        ),
    ),
  );
}

function cost(said) {
  if (!said) {
    return null;
  }
  const diff =
    said.diff_monthly && Number(said.diff_monthly) !== 0
      ? h(
          "p",
          { class: "muted" },
          `${Number(said.diff_monthly) > 0 ? "+" : ""}${money(said.diff_monthly)} ${said.currency} against now`,
        )
      : null;
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Cost"),
    h(
      "p",
      { class: "figure" },
      money(said.total_monthly),
      h("span", { class: "muted" }, ` ${said.currency} a month`),
    ),
    diff,
  );
}

/** An amount is decimal text; people read two places. */
function money(text) {
  return Number(text).toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

function outputs(values) {
  const entries = Object.entries(values ?? {});
  if (!entries.length) {
    return null;
  }
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Outputs"),
    h(
      "dl",
      { class: "outputs" },
      entries.flatMap(([name, value]) => [
        h("dt", {}, name),
        h(
          "dd",
          {},
          h(
            "pre",
            { tabindex: "0", "aria-label": `Output ${name}` },
            typeof value === "string" ? value : JSON.stringify(value, null, 2),
          ),
        ),
      ]),
    ),
  );
}

function rest(run, facts, names) {
  const lost = (facts.undelivered_log_chunks ?? 0) + (facts.lost_log_bytes ?? 0);
  const rows = [
    [
      "Configuration",
      run.configuration_id
        ? h("a", { href: href("configurations", run.configuration_id) }, names.configuration)
        : "none",
    ],
    ["Commit", facts.commit && h("code", { title: facts.commit }, facts.commit.slice(0, 12))],
    ["Terraform", facts.terraform_version],
    ["Agent", facts.agent?.name],
    ["Queued", moment(run.created_at)],
    ["Started", run.started_at && moment(run.started_at)],
    ["Ended", run.completed_at && moment(run.completed_at)],
    [
      "Hash",
      run.configuration_hash
        ? h("code", { title: run.configuration_hash }, run.configuration_hash.slice(0, 12))
        : "none",
    ],
    ["Provision", h("code", { title: run.id }, run.id.slice(0, 8))],
    [
      "Log",
      run.logs_pruned_at
        ? `deleted ${moment(run.logs_pruned_at)}`
        : lost
          ? `not whole: ${facts.undelivered_log_chunks} chunks and ${facts.lost_log_bytes} bytes were lost`
          : null,
    ],
  ];
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Details"),
    h(
      "dl",
      { class: "facts" },
      rows.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
  );
}
