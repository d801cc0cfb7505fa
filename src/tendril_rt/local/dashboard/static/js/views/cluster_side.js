/** What stands beside a cluster's runs: agents, options, tokens. */

import { tellToken } from "../cluster_token.js";
import { ask, toast } from "../dialog.js";
import { button, field, h, reconcile, setText } from "../dom.js";
import { badge } from "../parts.js";
import { ago, moment } from "../time.js";

const OVERLAP_H = 24; // that the old token lives on beside a new one

/** The agents, as they describe themselves. */
export function agentsPart(clock) {
  const list = h("ul", { class: "plain" });
  const none = h(
    "p",
    { class: "muted none" },
    "No agent has been here yet: start one with the cluster’s token.",
  );
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "agents-title" },
      h("h2", { id: "agents-title" }, "Agents"),
      list,
      none,
    ),
    show(agents) {
      none.hidden = agents.length > 0;
      reconcile(
        list,
        agents.slice(0, 50),
        ({ id }) => id,
        () => {
          const state = badge("OFFLINE");
          const [name, more] = [h("strong", {}), h("span", { class: "muted" })];
          return {
            element: h("li", { class: "agent" }, h("span", { class: "run-name" }, name, more), state.element),
            update(agent) {
              setText(name, agent.hostname || agent.id.slice(0, 8));
              const capacity = agent.capacity === null ? "" : `runs ${agent.capacity} at once · `;
              setText(
                more,
                `${agent.version ? `version ${agent.version} · ` : ""}${capacity}${ago(clock.age(agent.last_seen))}`,
              );
              state.update(agent.state);
            },
          };
        },
      );
    },
  };
}

/** How much runs at once, and whether anything is taken on at all. */
export function optionsPart({ api }, clusterId, refresh) {
  const concurrency = h("input", {
    type: "number",
    min: "0",
    max: "1000",
    inputmode: "numeric",
    required: true,
  });
  const limit = field("Runs at once", concurrency, "0 pauses the cluster.");
  const drain = h("input", { type: "checkbox", role: "switch" });
  let isEdited = false;
  concurrency.addEventListener("input", () => {
    isEdited = true;
  });
  const save = async (options, said) => {
    try {
      await api.setOptions(clusterId, options);
      isEdited = false;
      toast(said);
    } catch (error) {
      toast(error.message, "error");
    }
    refresh();
  };
  drain.addEventListener("change", () =>
    save(
      { drain: drain.checked },
      drain.checked ? "Draining: nothing more is claimed here" : "Taking work again",
    ),
  );
  const form = h(
    "form",
    {
      class: "inline",
      onsubmit: (event) => {
        event.preventDefault();
        save({ maxConcurrency: Number(concurrency.value) }, "Saved");
      },
    },
    limit,
    button("Save", null, { type: "submit" }),
  );
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "options-title" },
      h("h2", { id: "options-title" }, "Options"),
      form,
      h(
        "label",
        { class: "switch" },
        drain,
        h(
          "span",
          {},
          h("strong", {}, "Drain"),
          h("span", { class: "hint" }, "Claim nothing more; what runs goes on to its end."),
        ),
      ),
    ),
    show(cluster) {
      if (!isEdited) {
        concurrency.value = cluster.max_concurrency;
      }
      drain.checked = cluster.drain;
    },
  };
}

/** The tokens of the agents: at most two live at once. */
export function tokensPart(context, clusterId, refresh) {
  const { api, session } = context;
  const list = h("ul", { class: "plain" });

  async function rotate() {
    const registration = await ask({
      title: "Make another token",
      action: "Make it",
      body: [
        h(
          "p",
          {},
          `The old token works for another ${OVERLAP_H} hours, so agents can change over ` +
            `one by one. Two at most are live at once.`,
        ),
      ],
      submit: () => api.rotateToken(clusterId, new Date(Date.now() + OVERLAP_H * 3_600_000).toISOString()),
    });
    if (registration) {
      refresh();
      await tellToken(registration, session.plane, "The new token");
    }
  }

  async function revoke(token) {
    const done = await ask({
      title: "Revoke this token",
      action: "Revoke",
      kind: "danger",
      body: [
        h(
          "p",
          {},
          "Agents that use it are refused from their next call on. What runs goes on, but " +
            "cannot report until the agent has a live token.",
        ),
      ],
      submit: () => api.revokeToken(token.id),
    });
    if (done) {
      refresh();
    }
  }

  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "tokens-title" },
      h("div", { class: "section-head" }, h("h2", { id: "tokens-title" }, "Tokens"), button("Rotate", rotate)),
      list,
    ),
    show(tokens) {
      const live = tokens.filter(
        (token) => !token.revoked_at && !(token.expires_at && Date.parse(token.expires_at) < Date.now()),
      );
      reconcile(
        list,
        live,
        ({ id }) => id,
        (token) => {
          const [name, more] = [h("code", {}), h("span", { class: "muted" })];
          return {
            element: h(
              "li",
              { class: "agent" },
              h("span", { class: "run-name" }, name, more),
              button("Revoke", () => revoke(token), { kind: "quiet" }),
            ),
            update(row) {
              setText(name, `${row.fingerprint ?? row.id.slice(0, 12)}…`);
              const used = row.last_used_at ? `used ${moment(row.last_used_at)}` : "not used yet";
              setText(more, row.expires_at ? `${used} · ends ${moment(row.expires_at)}` : used);
            },
          };
        },
      );
    },
  };
}
