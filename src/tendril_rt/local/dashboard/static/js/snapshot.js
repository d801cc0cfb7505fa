/**
 * A configuration as people edit it, and the snapshot that is made of it. Pure.
 *
 * The control plane checks again, and so does the agent: what is said here is only said sooner, and
 * next to the field.
 */

import { JsonError, Num, parse, stringify } from "./exact_json.js";

const NAME = /^[A-Za-z_][A-Za-z0-9_-]*$/;
const OWN_FIELDS = ["template_source", "terraform_vars"];

/**
 * What an editor shows of a configuration's row, whose three parts come as text.
 * @param {{template_source: string, terraform_vars: ?string, options: string}} row
 */
export function editable(row) {
  const source = parse(row.template_source);
  return {
    repo: text(source.get("repo")),
    version: text(source.get("version")),
    path: text(source.get("path")),
    variables: row.terraform_vars === null ? "{}" : pretty(row.terraform_vars),
    options: pretty(row.options),
    otherSource: new Map([...source].filter(([key]) => !["repo", "version", "path"].includes(key))),
  };
}

/**
 * The snapshot of what an editor holds, and what is wrong with it, by field.
 * @returns {{snapshot: ?Map, faults: Map<string, string>}}
 */
export function assembled({ repo, version, path, variables, options, otherSource = new Map() }) {
  const faults = new Map();
  const source = new Map([
    ["repo", repo.trim()],
    ["version", version.trim()],
  ]);
  if (path.trim()) {
    source.set("path", path.trim());
  }
  for (const [key, value] of otherSource) {
    source.set(key, value);
  }
  if (!repo.trim()) {
    faults.set("repo", "Which repository holds the template? For example https://github.com/acme/templates");
  }
  if (!version.trim()) {
    faults.set("version", "Which version? A tag, or the full id of a commit");
  }
  const parsedVariables = objectOf(variables, "variables", faults);
  const parsedOptions = objectOf(options, "options", faults);
  checkNames(parsedVariables, faults);
  checkOptions(parsedOptions, parsedVariables, faults);
  const snapshot = new Map([
    ["template_source", source],
    ["terraform_vars", parsedVariables],
    ...parsedOptions,
  ]);
  return { snapshot: faults.size ? null : snapshot, faults };
}

/** The text of a snapshot, for people: keys in order, two spaces. */
export function pretty(jsonText) {
  return stringify(sorted(parse(jsonText)), 2);
}

/** The snapshot's text that a configuration's row stands for. */
export function snapshotText(row) {
  const snapshot = new Map([
    ["template_source", parse(row.template_source)],
    ...(row.terraform_vars === null ? [] : [["terraform_vars", parse(row.terraform_vars)]]),
    ...parse(row.options),
  ]);
  return stringify(snapshot);
}

function sorted(value) {
  if (value instanceof Map) {
    return new Map([...value].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => [key, sorted(item)]));
  }
  return Array.isArray(value) ? value.map(sorted) : value;
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function objectOf(source, field, faults) {
  try {
    const value = parse(source.trim() || "{}");
    if (value instanceof Map) {
      return value;
    }
    faults.set(field, "This is a JSON object: { … }");
  } catch (error) {
    if (!(error instanceof JsonError)) {
      throw error;
    }
    faults.set(field, `Not JSON yet: ${error.message}`);
  }
  return new Map();
}

function checkNames(variables, faults) {
  const strange = [...variables.keys()].find((name) => !NAME.test(name));
  if (strange !== undefined && !faults.has("variables")) {
    faults.set("variables", `${JSON.stringify(strange)} is not the name of a Terraform variable`);
  }
}

function checkOptions(options, variables, faults) {
  if (faults.has("options")) {
    return;
  }
  const own = OWN_FIELDS.find((name) => options.has(name));
  const sensitive = options.get("sensitive") ?? [];
  const hidden = Array.isArray(sensitive) && sensitive.find((name) => !variables.has(name));
  const backend = options.get("backend_config") ?? new Map();
  const cost = options.get("cost_estimate") ?? false;
  if (own) {
    faults.set("options", `${own} has a field of its own above`);
  } else if (!Array.isArray(sensitive) || sensitive.some((name) => typeof name !== "string")) {
    faults.set("options", "sensitive is a list of names of variables");
  } else if (hidden !== undefined && !faults.has("variables")) {
    faults.set("options", `sensitive names ${JSON.stringify(hidden)}, which is not among the variables`);
  } else if (!(backend instanceof Map) || [...backend.values()].some((item) => !isPlain(item))) {
    faults.set("options", "backend_config is an object of texts, numbers, true and false");
  } else if (typeof cost !== "boolean") {
    faults.set("options", "cost_estimate is true or false");
  }
}

function isPlain(value) {
  return typeof value === "string" || typeof value === "boolean" || value instanceof Num;
}
