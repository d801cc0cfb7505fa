/** Submitting a provision: the configuration as it is saved, hashed here, by the owner's function. */

import { NoHash, snapshotHash } from "./canonical.js";
import { ask, toast } from "./dialog.js";
import { field, h } from "./dom.js";
import { operationWord } from "./parts.js";
import { href } from "./router.js";
import { snapshotText } from "./snapshot.js";

const SAID = {
  APPLY: "Plans, then makes it so.",
  PLAN: "Says what would change, and changes nothing.",
  DESTROY: "Takes down everything that this configuration made.",
};

/**
 * Ask what to run, queue it, go there.
 * @param {import("./main.js").Context} context
 * @param {{id: string, name: string, cluster_id: string}[]} configurations to choose from
 */
export async function deploy({ api }, configurations, { title = "Deploy" } = {}) {
  const which = h("select", {}, ...configurations.map(({ id, name }) => h("option", { value: id }, name)));
  const operation = h(
    "select",
    {},
    ...Object.keys(SAID).map((one) => h("option", { value: one }, operationWord(one))),
  );
  const said = field("What to do", operation, SAID.APPLY);
  const typed = h("input", { autocomplete: "off", spellcheck: "false" });
  const confirmation = field("Type the name of the configuration to confirm", typed);
  const chosen = () => configurations.find(({ id }) => id === which.value);
  const isConfirmed = () => operation.value !== "DESTROY" || typed.value === chosen().name;
  const adjust = () => {
    said.querySelector(".hint").textContent = SAID[operation.value];
    confirmation.hidden = operation.value !== "DESTROY";
  };
  operation.addEventListener("input", adjust);
  adjust();
  const row = await ask({
    title,
    action: "Deploy",
    body: [field("Configuration", which), said, confirmation],
    canSubmit: isConfirmed,
    submit: () => submit(api, chosen(), operation.value),
  });
  if (row) {
    location.hash = href("provisions", row.id);
  }
}

/** Queue a provision of what is saved now. */
async function submit(api, { id, cluster_id: clusterId }, operation) {
  const row = await api.configuration(id);
  if (!row) {
    throw new Error("this configuration is gone");
  }
  const snapshot = snapshotText(row);
  let hash = null;
  try {
    hash = await snapshotHash(snapshot);
  } catch (error) {
    if (!(error instanceof NoHash)) {
      throw error;
    }
    toast(`Queued without a hash: ${error.message}`, "warning");
  }
  return api.createProvision({
    configurationId: id,
    clusterId: row.cluster_id ?? clusterId,
    operation,
    snapshot,
    hash,
  });
}
