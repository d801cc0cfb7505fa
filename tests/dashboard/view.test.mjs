import assert from "node:assert/strict";
import { test } from "node:test";
import { commands } from "../../src/tendril_rt/local/dashboard/static/js/cluster_commands.js";
import { lineDiff } from "../../src/tendril_rt/local/dashboard/static/js/diff.js";
import { parse, stringify } from "../../src/tendril_rt/local/dashboard/static/js/exact_json.js";
import { href, routeOf } from "../../src/tendril_rt/local/dashboard/static/js/router.js";
import {
  assembled,
  editable,
  pretty,
  snapshotText,
} from "../../src/tendril_rt/local/dashboard/static/js/snapshot.js";
import { stepsOf } from "../../src/tendril_rt/local/dashboard/static/js/steps.js";
import { ago, Clock, clusterStatus, duration } from "../../src/tendril_rt/local/dashboard/static/js/time.js";

test("a diff, applied, is what it compares", () => {
  const samples = ["a\nb\nc", "a\nc", "", "x\ny", "a\nb\nc\nb\na", "b\nc\nb"];
  for (const before of samples) {
    for (const after of samples) {
      const lines = lineDiff(before, after);
      const side = (kind) =>
        lines
          .filter((line) => line.kind !== kind)
          .map((line) => line.text)
          .join("\n");
      assert.equal(side("added"), before);
      assert.equal(side("removed"), after);
    }
  }
  assert.deepEqual(
    lineDiff("a\nb", "a\nb").map(({ kind }) => kind),
    ["same", "same"],
  );
});

test("addresses name views", () => {
  assert.deepEqual(
    { ...routeOf("#/clusters/a%2Fb?x=1"), query: null },
    { name: "clusters", id: "a/b", query: null },
  );
  assert.equal(routeOf("").name, "clusters");
  assert.equal(routeOf(href("provisions", "é/?")).id, "é/?");
});

test("a 17-digit integer survives an edit", () => {
  const row = {
    template_source: '{"repo": "r", "version": "v1", "depth": 3}',
    terraform_vars: '{"account": 12345678901234567, "ratio": 1.10}',
    options: '{"cost_estimate": true}',
  };
  const form = editable(row);
  const { snapshot, faults } = assembled({ ...form, variables: form.variables.replace("1.10", "1.20") });
  assert.equal(faults.size, 0);
  assert.equal(stringify(snapshot.get("terraform_vars")), '{"account": 12345678901234567, "ratio": 1.20}');
  assert.equal(stringify(snapshot.get("template_source").get("depth")), "3");
  assert.equal(pretty(snapshotText(row)), pretty(stringify(assembled(form).snapshot)));
});

test("faults are named by field", () => {
  const good = { repo: "r", version: "v", path: "", variables: '{"a": 1}', options: "{}" };
  const faultsOf = (change) => [...assembled({ ...good, ...change }).faults.keys()];
  assert.deepEqual(faultsOf({}), []);
  assert.deepEqual(faultsOf({ repo: " " }), ["repo"]);
  assert.deepEqual(faultsOf({ version: "" }), ["version"]);
  assert.deepEqual(faultsOf({ variables: "[1]" }), ["variables"]);
  assert.deepEqual(faultsOf({ variables: "{" }), ["variables"]);
  assert.deepEqual(faultsOf({ variables: '{"a b": 1}' }), ["variables"]);
  for (const options of [
    '{"sensitive": ["b"]}',
    '{"sensitive": 1}',
    '{"terraform_vars": {}}',
    '{"backend_config": {"a": []}}',
    '{"cost_estimate": 1}',
  ]) {
    assert.deepEqual(faultsOf({ options }), ["options"], options);
  }
  assert.deepEqual(
    faultsOf({ options: '{"sensitive": ["a"], "backend_config": {"key": "x", "n": 1}, "meta": {"any": [1]}}' }),
    [],
  );
});

test("steps come from the agent's own lines, then from its report", () => {
  const at = "2026-01-01T00:00:00Z";
  const lines = [
    "provision p, attempt 1",
    "cloning https://x …",
    "cloning https://x: done in 0.4 s",
    "template v is commit c",
    "terraform init …",
    "terraform init: done in 2.0 s",
    "terraform plan …",
  ].map((text) => ({ text, at }));
  const run = { operation: "APPLY", status: "PROCESSING", completed_at: null, execution_metadata: {} };
  const states = (steps) => steps.map((step) => `${step.name} ${step.state}`);
  assert.deepEqual(states(stepsOf(run, lines)), [
    "template done",
    "init done",
    "plan running",
    "apply waiting",
  ]);
  const failed = {
    ...run,
    status: "FAILED",
    completed_at: at,
    execution_metadata: {
      steps: [
        { name: "init", exit_code: 0, duration_s: 1.9 },
        { name: "plan", exit_code: 1, duration_s: 3 },
      ],
    },
  };
  assert.deepEqual(states(stepsOf(failed, lines)), [
    "template done",
    "init done",
    "plan failed",
    "apply skipped",
  ]);
  assert.deepEqual(states(stepsOf({ ...run, operation: "PLAN" }, [])), [
    "template waiting",
    "init waiting",
    "plan waiting",
  ]);
  const cost = [...lines, { text: "infracost …", at }, { text: "infracost: done in 1.0 s", at }];
  assert.ok(states(stepsOf(run, cost)).includes("cost done"));
});

test("silence makes a cluster offline, whatever is written down", () => {
  const clock = new Clock();
  const beaten = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
  assert.equal(clusterStatus({ status: "ONLINE", last_heartbeat: beaten(30) }, clock), "ONLINE");
  assert.equal(clusterStatus({ status: "ONLINE", last_heartbeat: beaten(91) }, clock), "OFFLINE");
  assert.equal(clusterStatus({ status: "PENDING", last_heartbeat: null }, clock), "PENDING");
  clock.observe(beaten(600)); // this machine's clock is ten minutes ahead of the control plane's
  assert.equal(clusterStatus({ status: "ONLINE", last_heartbeat: beaten(630) }, clock), "ONLINE");
});

test("times read well", () => {
  assert.deepEqual([0, 0.44, 9.96, 41, 60, 125, 3600, 4320, 90000].map(duration), [
    "0 s",
    "0.4 s",
    "10.0 s",
    "41 s",
    "1 min",
    "2 min 5 s",
    "1 h",
    "1 h 12 min",
    "1 d 1 h",
  ]);
  assert.deepEqual([null, 0.3, 12.8, 200].map(ago), ["never", "now", "12 s ago", "3 min 20 s ago"]);
});

test("the commands carry the token once and the keys as they are", () => {
  const all = commands({ cluster_id: "c1", token: "tok" }, { url: "https://x.supabase.co", anonKey: "anon" });
  assert.deepEqual(
    all.map(({ name }) => name),
    ["Helm", "Docker", "Shell"],
  );
  for (const { text } of all) {
    assert.equal(text.split("'tok'").length, 2);
    assert.ok(text.includes("https://x.supabase.co") && text.includes("'anon'") && text.includes("'c1'"));
  }
  assert.ok(parse("{}") instanceof Map);
});
