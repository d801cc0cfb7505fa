/** One configuration: the template, its version and variables; what was deployed of it before. */

import { deploy } from "../deploy.js";
import { toast } from "../dialog.js";
import { lineDiff } from "../diff.js";
import { button, empty, field, h, reconcile } from "../dom.js";
import { stringify } from "../exact_json.js";
import { runRow } from "../parts.js";
import { href } from "../router.js";
import { assembled, editable, pretty, snapshotText } from "../snapshot.js";

const FRESH = { repo: "", version: "", path: "", variables: "{\n  \n}", options: "{}" };
const RUNS = 50;

/** @param {import("../main.js").Context} context */
export async function showConfiguration(context, id, query) {
  const { api, main, report, title } = context;
  title(id ? "Configuration" : "New configuration");
  main.append(h("a", { class: "crumb", href: href("configurations") }, "Configurations"));
  try {
    const [clusters, row, runs] = await Promise.all([
      api.clusters(),
      id ? api.configuration(id) : null,
      id ? api.runsOf(id, RUNS) : [],
    ]);
    if (context.signal.aborted) {
      return;
    }
    if (id && !row) {
      main.append(
        empty(
          "There is no such configuration",
          h("a", { class: "button", href: href("configurations") }, "All configurations"),
        ),
      );
    } else if (!clusters.length) {
      main.append(
        empty(
          "First a cluster, then a configuration",
          h("p", {}, "A configuration belongs to the cluster where it is to exist."),
          h("a", { class: "button primary", href: href("clusters") }, "Add a cluster"),
        ),
      );
    } else {
      editor(context, { row, clusters, runs, clusterId: query.get("cluster") });
    }
  } catch (error) {
    report(error);
    main.append(h("p", { class: "problem", role: "alert" }, error.message));
  }
}

function editor(context, { row, clusters, runs, clusterId }) {
  const { api, clock, main, title } = context;
  const start = row ? editable(row) : FRESH;
  const name = h("input", {
    required: true,
    maxlength: "100",
    value: row?.name ?? "",
    autocomplete: "off",
    placeholder: "network",
  });
  const cluster = h("select", {}, ...clusters.map((one) => h("option", { value: one.id }, one.name)));
  cluster.value = row?.cluster_id ?? clusterId ?? clusters[0].id;
  const text = (value, placeholder) =>
    h("input", { value, placeholder, autocomplete: "off", spellcheck: "false", class: "mono" });
  const area = (value, rows) => h("textarea", { rows, spellcheck: "false", class: "mono", value });
  const inputs = {
    repo: text(start.repo, "https://github.com/acme/templates"),
    version: text(start.version, "v1.2.0"),
    path: text(start.path, "vpc"),
    variables: area(start.variables, 14),
    options: area(start.options, 6),
  };
  const fields = {
    repo: field("Repository", inputs.repo),
    version: field("Version", inputs.version, "A tag or a commit: what is deployed is exactly this."),
    path: field("Folder", inputs.path, "Of the root module in the repository; empty is its top."),
    variables: field("Variables", inputs.variables, "A JSON object; numbers stay exactly as you write them."),
    options: field("More", inputs.options, "sensitive, backend_config, cost_estimate, timeouts, …"),
  };
  const changes = h("div", { class: "diff-place" });
  const save = button("Save", null, { kind: "primary", type: "submit" });
  const run = button("Deploy", () => start_(), { iconName: "play" });
  const last = runs.find((one) => one.status === "SUCCESS" && one.operation === "APPLY");
  let appliedText = null;

  const held = () =>
    assembled({
      ...Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, input.value])),
      otherSource: start.otherSource,
    });
  const savedText = row ? pretty(snapshotText(row)) : null;
  const isChanged = (snapshot) =>
    !row ||
    name.value !== row.name ||
    cluster.value !== row.cluster_id ||
    (snapshot && pretty(stringify(snapshot)) !== savedText);

  function check() {
    const { snapshot, faults } = held();
    for (const [key, part] of Object.entries(fields)) {
      const isUntouched = !row && inputs[key].value === FRESH[key];
      part.fault(isUntouched ? "" : (faults.get(key) ?? ""));
    }
    const changed = isChanged(snapshot);
    save.disabled = !snapshot || !name.value.trim() || !changed;
    run.disabled = !row || changed;
    run.title = row ? (changed ? "Save first: what is saved is deployed" : "") : "Save it first";
    showChanges(snapshot);
  }

  function showChanges(snapshot) {
    if (appliedText === null) {
      changes.replaceChildren(
        h(
          "p",
          { class: "muted none" },
          row
            ? "This was never applied, so there is nothing to compare with."
            : "Once it is applied, this shows what you changed since.",
        ),
      );
    } else if (snapshot) {
      const lines = lineDiff(appliedText, pretty(stringify(snapshot)));
      const isSame = lines.every(({ kind }) => kind === "same");
      changes.replaceChildren(
        isSame ? h("p", { class: "muted none" }, "The same as what was applied last.") : diffBlock(lines),
      );
    }
  }

  async function submit() {
    const { snapshot } = held();
    if (!snapshot) {
      return;
    }
    save.disabled = true;
    try {
      const saved = await api.saveConfiguration({
        id: row?.id,
        clusterId: cluster.value,
        name: name.value.trim(),
        snapshot: stringify(snapshot),
      });
      toast("Saved");
      if (row) {
        main.replaceChildren();
        await showConfiguration(context, row.id, new URLSearchParams());
      } else {
        location.replace(href("configurations", saved.id));
      }
    } catch (error) {
      toast(error.message, "error");
      save.disabled = false;
    }
  }

  function start_() {
    deploy(context, [row], { title: `Deploy ${row.name}` });
  }

  title(row?.name ?? "New configuration");
  main.append(
    h(
      "form",
      {
        oninput: check,
        onsubmit: (event) => {
          event.preventDefault();
          submit();
        },
      },
      h(
        "div",
        { class: "heading" },
        h("h1", {}, row?.name ?? "New configuration"),
        h("div", { class: "actions" }, save, run),
      ),
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          { class: "wide card form" },
          h("div", { class: "pair" }, field("Name", name), field("Cluster", cluster)),
          fields.repo,
          h("div", { class: "pair" }, fields.version, fields.path),
          fields.variables,
          h(
            "details",
            { open: start.options !== "{}" },
            h("summary", {}, "Secrets, backend and more"),
            fields.options,
          ),
        ),
        h(
          "div",
          { class: "narrow" },
          h(
            "section",
            { class: "card", "aria-labelledby": "diff-title" },
            h("h2", { id: "diff-title" }, "Against what was applied last"),
            changes,
          ),
          historyPart(context, runs, clock),
        ),
      ),
    ),
  );
  check();
  if (last) {
    api.snapshot(last.id).then(
      (found) => {
        appliedText = found === null ? null : pretty(found);
        check();
      },
      (error) => context.report(error),
    );
  }
}

/** What differs, with a little of what is around it. */
function diffBlock(lines) {
  const signs = { same: " ", removed: "−", added: "+" };
  const isNear = (index) => lines.slice(Math.max(0, index - 2), index + 3).some(({ kind }) => kind !== "same");
  const shown = lines.filter((_, index) => isNear(index));
  return h(
    "pre",
    { class: "diff", tabindex: "0", "aria-label": "Differences" },
    ...shown.map(({ kind, text }) =>
      h(
        kind === "same" ? "span" : kind === "added" ? "ins" : "del",
        { class: "line" },
        `${signs[kind]} ${text}\n`,
      ),
    ),
  );
}

/** Earlier runs; each can show the snapshot that it ran. */
function historyPart({ api }, runs, clock) {
  const list = h("ul", { class: "rows" });
  reconcile(
    list,
    runs,
    (run) => run.id,
    (run) => {
      const row = runRow(run, {
        clock,
        nameOf: () => new Date(run.created_at).toLocaleDateString(undefined, { dateStyle: "medium" }),
      });
      const place = h("div", {});
      const details = h(
        "details",
        {
          class: "snapshot",
          ontoggle: async () => {
            if (details.open && !place.firstChild) {
              const text = await api.snapshot(run.id);
              place.append(
                h("pre", { tabindex: "0", "aria-label": "Snapshot" }, text === null ? "gone" : pretty(text)),
              );
            }
          },
        },
        h("summary", {}, "Snapshot"),
        place,
      );
      row.element.append(details);
      return row;
    },
  );
  return h(
    "section",
    { class: "card", "aria-labelledby": "runs-title" },
    h("h2", { id: "runs-title" }, "History"),
    list,
    h("p", { class: "muted none", hidden: runs.length > 0 }, "Not deployed yet."),
  );
}
