import assert from "node:assert/strict";
import { test } from "node:test";
import { canonical, NoHash, snapshotHash } from "../../src/tendril_rt/local/dashboard/static/js/canonical.js";
import { JsonError, Num, parse, stringify } from "../../src/tendril_rt/local/dashboard/static/js/exact_json.js";

test("numbers stay as they were written", () => {
  const text = '{"a": 12345678901234567, "b": [1.10, -0, 1E400, 1e-7], "c": {"": null}}';
  assert.equal(stringify(parse(text)), text);
  assert.equal(parse("12345678901234567").text, "12345678901234567");
});

test("what JSON.parse understands is understood alike", () => {
  const samples = [
    '"\\u00e9\\n\\ud83d\\ude00"',
    "[]",
    "{}",
    " [ 1 , [ ] , { } ] ",
    "true",
    '{"__proto__": 1, "constructor": 2}',
  ];
  for (const sample of samples) {
    assert.equal(JSON.stringify(JSON.parse(stringify(parse(sample)))), JSON.stringify(JSON.parse(sample)));
  }
});

test("what is not JSON is refused, and where it is not", () => {
  const wrong = [
    "",
    "{",
    "[1,]",
    '{"a":1,}',
    "01",
    "+1",
    "1.",
    ".5",
    "NaN",
    "'a'",
    '{"a" 1}',
    "[1 2]",
    "nul",
    '"\t"',
    "1 2",
    "{a:1}",
    '"\\x"',
  ];
  for (const text of wrong) {
    assert.throws(() => parse(text), JsonError, text);
  }
  assert.throws(() => parse('{\n  "a": 1,\n  "a": 2\n}'), /line 3, column 3: the key "a" stands twice/);
  assert.throws(() => parse("[".repeat(100)), /nested/);
  assert.throws(() => parse('"\\ud83d"'), /half a character/);
});

test("the canonical form is that of RFC 8785", () => {
  const vectors = [
    ['{"b":1,"a":{"d":"\\u20ac","c":[1.0,2e1]}}', '{"a":{"c":[1,20],"d":"€"},"b":1}'],
    [
      "[1e30, 4.50, 2e-3, 0.000000000000000000000000001, -0, 333333333.33333329]",
      "[1e+30,4.5,0.002,1e-27,0,333333333.3333333]",
    ],
    ['{"\\ud83d\\ude00":1,"\\ufb33":2,"\\u20ac":3,"1":4,"\\r":5}', '{"\\r":5,"1":4,"€":3,"😀":1,"\ufb33":2}'],
    ['"\\u000f\\b\\"\\\\\\/"', '"\\u000f\\b\\"\\\\/"'],
  ];
  for (const [text, form] of vectors) {
    assert.equal(canonical(parse(text)), form);
  }
});

test("an integer beyond 2^53 has no hash, and is named", async () => {
  await assert.rejects(
    snapshotHash('{"terraform_vars": {"id": [1, 9007199254740993]}}'),
    (error) => error instanceof NoHash && error.path === "config_snapshot.terraform_vars.id[1]",
  );
  await assert.rejects(snapshotHash("[1e400]"), NoHash);
  assert.equal((await snapshotHash("[9007199254740991]")).length, 64);
  assert.ok(new Num("1").isInteger);
});
