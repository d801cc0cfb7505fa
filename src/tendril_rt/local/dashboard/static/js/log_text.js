/**
 * From rows of a log to what a terminal is told to print. Pure.
 *
 * Chunks are not cut at lines, so a row goes on where the one before it ended; only what the agent
 * itself says begins a line of its own. Numbers that are missing between two rows are shown.
 */

import { harmless } from "./harmless.js";

const SYSTEM = "\x1b[36m";
const STDERR = "\x1b[91m";
const NOTE = "\x1b[33m";
const PLAIN = "\x1b[0m";

/** Where a text goes on: the row before, and whether it ended within a line. */
export const START = Object.freeze({ previous: null, isWithinLine: false });

/**
 * @param {import("./log_feed.js").Row[]} rows in order
 * @param {{previous: ?object, isWithinLine: boolean}} from
 * @returns {{text: string, lines: number, end: {previous: ?object, isWithinLine: boolean}}}
 *   lines: how many line feeds the text has
 */
export function printed(rows, from = START) {
  const parts = [];
  let { previous, isWithinLine } = from;
  const fresh = () => {
    if (isWithinLine) {
      parts.push("\n");
      isWithinLine = false;
    }
  };
  const note = (text) => {
    fresh();
    parts.push(`${NOTE}${text}${PLAIN}\n`);
  };
  for (const row of rows) {
    if (previous && row.attempt !== previous.attempt) {
      note(`──── attempt ${row.attempt} ────`);
    }
    const missing = holeBefore(row, previous);
    if (missing) {
      note(missing);
    }
    const text = harmless(row.log_chunk);
    if (row.stream_type === "SYSTEM") {
      fresh();
      parts.push(systemLines(text));
    } else if (row.stream_type === "STDERR") {
      parts.push(`${STDERR}${text}${PLAIN}`);
    } else {
      parts.push(text);
    }
    if (text) {
      isWithinLine = !text.endsWith("\n") && row.stream_type !== "SYSTEM";
    }
    previous = { attempt: row.attempt, seq: row.seq };
  }
  const text = parts.join("");
  return { text: text.replaceAll("\n", "\r\n"), lines: countLines(text), end: { previous, isWithinLine } };
}

/** What is missing before a row, in words; null if nothing is. */
function holeBefore(row, previous) {
  const expected = previous && previous.attempt === row.attempt ? previous.seq + 1 : null;
  if (expected === null || row.seq <= expected) {
    return null;
  }
  const many = row.seq - expected > 1 ? `chunks ${expected} to ${row.seq - 1} are` : `chunk ${expected} is`;
  return `──── ${many} missing from the stored log ────`;
}

function systemLines(text) {
  const lines = text.replace(/\n$/, "").split("\n");
  return lines.map((line) => `${SYSTEM}▸ ${line}${PLAIN}\n`).join("");
}

/** Line feeds in a text. */
export function countLines(text) {
  let count = 0;
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) {
    count += 1;
  }
  return count;
}
