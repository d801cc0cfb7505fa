/**
 * Finding text in a whole log, which is read page by page and not kept. Pure but for the pages.
 *
 * A match may begin in one chunk and end in the next; it is noted with the row in which it ends.
 */

import { printed, START } from "./log_text.js";

const COLOURS = /\x1b\[[0-9;:]*m/g;
const MOST_HITS = 10_000;

/** Terraform frames its errors; others begin a line with the word. */
export const ERROR = /^[│╷|\s]*(?:error|fatal|panic)\b[: ]/i;

/**
 * @typedef {{attempt: number, seq: number, lineFeeds: number, column: number}} Hit lineFeeds: those of
 *   the row's own text before the line
 */

/**
 * Go through a log; yield how far it is after each page, and what was found so far.
 * @param {AsyncIterable<object[]>} pages
 * @param {(line: string) => number[]} columnsOf where in a line the matches begin
 * @param {AbortSignal} signal
 * @param {number} most stop after so many
 */
export async function* searched(pages, columnsOf, signal, most = MOST_HITS) {
  const hits = [];
  let state = START;
  let line = "";
  let noted = 0;
  for await (const rows of pages) {
    for (const row of rows) {
      if (signal.aborted) {
        return;
      }
      const { text, end } = printed([row], state);
      state = end;
      const lines = text.replace(COLOURS, "").split("\r\n");
      lines.forEach((more, lineFeeds) => {
        if (lineFeeds > 0) {
          line = "";
          noted = 0;
        }
        line += more;
        const columns = columnsOf(line);
        for (const column of columns.slice(noted)) {
          hits.push({ attempt: row.attempt, seq: row.seq, lineFeeds, column });
        }
        noted = Math.max(noted, columns.length);
      });
      if (hits.length >= most) {
        yield { hits: hits.slice(0, most), isComplete: false, row };
        return;
      }
    }
    yield { hits, isComplete: false, row: rows.at(-1) };
  }
  yield { hits, isComplete: true, row: null };
}

/** Where a plain text stands in a line, in either case. */
export function occurrences(wanted) {
  const lower = wanted.toLowerCase();
  return (line) => {
    const columns = [];
    const text = line.toLowerCase();
    for (let at = text.indexOf(lower); at !== -1; at = text.indexOf(lower, at + lower.length)) {
      columns.push(at);
    }
    return columns;
  };
}

/** The start of a line that says an error. */
export function errors(line) {
  return ERROR.test(line) ? [0] : [];
}

/** Line feeds between the start of a block and a hit in it. */
export function lineFeedsTo(hit, block) {
  const index = block.rows.findIndex((row) => row.attempt === hit.attempt && row.seq === hit.seq);
  const before = printed(block.rows.slice(0, index), block.from);
  return before.lines + hit.lineFeeds;
}
