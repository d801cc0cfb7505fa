import assert from "node:assert/strict";
import { test } from "node:test";
import { harmless } from "../../src/tendril_rt/local/dashboard/static/js/harmless.js";
import {
  errors,
  lineFeedsTo,
  occurrences,
  searched,
} from "../../src/tendril_rt/local/dashboard/static/js/log_search.js";
import { printed, START } from "../../src/tendril_rt/local/dashboard/static/js/log_text.js";
import { LogWindow } from "../../src/tendril_rt/local/dashboard/static/js/log_window.js";

const row = (seq, text, stream = "STDOUT", attempt = 1) => ({
  attempt,
  seq,
  stream_type: stream,
  log_chunk: text,
  byte_offset: 0,
  created_at: "",
});
const plain = (rows) =>
  printed(rows)
    .text.replace(/\x1b\[[0-9;]*m/g, "")
    .replaceAll("\r\n", "\n");

test("chunks go on where the one before ended, and the agent's own lines stand alone", () => {
  const rows = [
    row(0, "begun\n", "SYSTEM"),
    row(1, "half a "),
    row(2, "line\nanother"),
    row(3, "step done", "SYSTEM"),
    row(4, "more\n"),
  ];
  assert.equal(plain(rows), "▸ begun\nhalf a line\nanother\n▸ step done\nmore\n");
});

test("a hole is shown as one, and so is a new attempt", () => {
  const rows = [row(0, "a\n"), row(3, "d\n"), row(5, "f\n"), row(0, "again\n", "STDOUT", 2)];
  assert.equal(
    plain(rows),
    "a\n──── chunks 1 to 2 are missing from the stored log ────\nd\n" +
      "──── chunk 4 is missing from the stored log ────\nf\n──── attempt 2 ────\nagain\n",
  );
});

test("printing in parts is printing at once", () => {
  const rows = [
    row(0, "a"),
    row(1, "b\n", "STDERR"),
    row(2, "s\n", "SYSTEM"),
    row(3, "c"),
    row(4, "e", "SYSTEM"),
    row(6, "\n"),
  ];
  for (let cut = 0; cut <= rows.length; cut += 1) {
    const first = printed(rows.slice(0, cut), START);
    const second = printed(rows.slice(cut), first.end);
    assert.equal(first.text + second.text, printed(rows).text);
    assert.equal(first.lines + second.lines, printed(rows).lines);
  }
});

test("nothing that a template prints commands the terminal", () => {
  const hostile =
    "a\x1b[2J\x1b[H\x1b]0;title\x07\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\\x1b[?1049h\x1bc\x9b5Ab\x07\u202e";
  assert.equal(harmless(hostile), "alinkb");
  assert.equal(harmless("\x1b[31mred\x1b[0m\tx\n"), "\x1b[31mred\x1b[0m\tx\n");
  assert.equal(harmless("\x1b[31mred", false), "red");
  assert.equal(harmless("10%\r20%\r\n"), "10%\n20%\n");
  assert.equal(harmless("\x1b[1;38;2;255;0;0mx\x1b[48;2;0;0;255m"), "\x1b[1;38;5;196mx\x1b[48;5;21m");
  assert.equal(harmless("\x1b[38:2::255:0:0mx"), "\x1b[38:5:196mx");
});

async function* pagesOf(rows, size) {
  for (let at = 0; at < rows.length; at += size) {
    yield rows.slice(at, at + size);
  }
}

async function found(rows, wanted, size = 2) {
  let last = { hits: [] };
  for await (const step of searched(pagesOf(rows, size), occurrences(wanted), new AbortController().signal)) {
    last = step;
  }
  return last;
}

test("text is found wherever chunks are cut", async () => {
  const text = "alpha needle beta\nNEEDLE\nno\nneedleneedle";
  for (let size = 1; size < text.length; size += 1) {
    const rows = [];
    for (let at = 0; at < text.length; at += size) {
      rows.push(row(rows.length, text.slice(at, at + size)));
    }
    const { hits, isComplete } = await found(rows, "needle", 3);
    assert.equal(hits.length, 4, `chunks of ${size}`);
    assert.ok(isComplete);
    const whole = printed(rows).text.split("\r\n");
    for (const hit of hits) {
      const line = whole[lineFeedsTo(hit, { rows, from: START })];
      assert.equal(line.slice(hit.column, hit.column + 6).toLowerCase(), "needle");
    }
  }
});

test("the first error is a line that says so", () => {
  assert.deepEqual(errors("│ Error: creating VPC"), [0]);
  assert.deepEqual(errors("Error: x"), [0]);
  assert.deepEqual(errors("0 errors: none"), []);
  assert.deepEqual(errors("terraform_data.error: Creating"), []);
});

/** A terminal that keeps lines, and as many as it is told. */
class Paper {
  text = "";
  topLine = 0;
  async write(text) {
    this.text += text;
  }
  mark() {
    return { at: this.text.length, isDisposed: false, dispose() {} };
  }
  async rewrite(print) {
    this.text = "";
    await print();
  }
  trimBefore(marker) {
    this.trimmed = (this.trimmed ?? 0) + 1;
    this.text = this.text.slice(marker.at - (this.cut ?? 0));
    this.cut = marker.at;
  }
  scrollToEnd() {}
  scrollToLogicalLine(...counts) {
    this.scrolledTo = counts;
  }
}

function pagesOver(rows) {
  const at = ({ attempt, seq }) => attempt * 1e9 + seq;
  return {
    before: async (position, count = 100) =>
      rows.filter((one) => at(one) < at({ ...position, seq: Math.min(position.seq, 1e8) })).slice(-count),
    behind: async (position) => rows.filter((one) => at(one) > at(position)).slice(0, 100),
  };
}

test("a window holds the end of a long log, and walks back to its start without a gap", async () => {
  const rows = Array.from({ length: 2000 }, (_, seq) => row(seq, `line ${seq} ${"x".repeat(4000)}\n`));
  const paper = new Paper();
  const window = new LogWindow(pagesOver(rows), paper);
  await window.showEnd();
  assert.equal(window.last.seq, 1999);
  assert.ok(window.hasEarlier && paper.text.length < 2e6);
  let steps = 0;
  while (window.hasEarlier && steps < 200) {
    const before = window.first.seq;
    await window.extendBack();
    assert.ok(window.first.seq < before);
    const numbers = [...paper.text.matchAll(/line (\d+) /g)].map((found) => Number(found[1]));
    assert.deepEqual(
      numbers,
      Array.from({ length: numbers.length }, (_, index) => window.first.seq + index),
    );
    steps += 1;
  }
  assert.equal(window.first.seq, 0);
  assert.equal(window.isAtTail, false);
  while (!window.isAtTail) {
    await window.extendForth();
  }
  assert.equal(window.last.seq, 1999);
  assert.ok(paper.trimmed > 0);
});

test("rows that follow are printed at the tail only", async () => {
  const rows = Array.from({ length: 10 }, (_, seq) => row(seq, `${seq}\n`));
  const paper = new Paper();
  const window = new LogWindow(pagesOver(rows.slice(0, 5)), paper);
  await window.showEnd();
  await window.append(rows.slice(5));
  assert.equal(paper.text.replaceAll("\r\n", " "), "0 1 2 3 4 5 6 7 8 9 ");
});
