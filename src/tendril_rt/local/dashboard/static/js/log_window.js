/**
 * The part of a log that the terminal holds: at most a megabyte or so, wherever the reader is.
 *
 * The log itself stays in the database. A window is a run of blocks, each of whole rows; at its end
 * it grows and the terminal forgets its oldest lines, at its start it is printed anew with earlier
 * rows before it. So 50 MB of log cost as much as one.
 */

import { printed, START } from "./log_text.js";

const BLOCK_BYTES = 128 * 1024;
const WINDOW_BYTES = 1024 * 1024;
const WINDOW_LINES = 20_000;

/** Lines that the terminal must be able to hold: a window, and what one row of line feeds may add. */
export const SCROLLBACK = WINDOW_LINES + 70_000;

export class LogWindow {
  #blocks = [];
  #queue = Promise.resolve();

  /**
   * @param {import("./log_pages.js").LogPages} pages
   * @param {import("./terminal.js").LogTerminal} terminal
   */
  constructor(pages, terminal) {
    this.pages = pages;
    this.terminal = terminal;
    this.newestAttempt = 1;
    this.hasEarlier = false;
    this.isAtTail = true;
  }

  get first() {
    return this.#blocks[0]?.rows[0] ?? null;
  }

  get last() {
    return this.#blocks.at(-1)?.rows.at(-1) ?? null;
  }

  /** Run one change at a time, in the order in which they were asked for. */
  #inTurn(change) {
    const done = this.#queue.then(change);
    this.#queue = done.catch(() => {});
    return done;
  }

  /** Show the end of the log as it is stored. */
  showEnd() {
    return this.#inTurn(async () => {
      const rows = await this.#rowsBefore({ attempt: this.newestAttempt, seq: Infinity }, WINDOW_BYTES / 2);
      await this.#showAnew(rows);
      this.isAtTail = true;
      this.terminal.scrollToEnd();
    });
  }

  /** Show the start of the log. */
  showStart() {
    return this.showAround({ attempt: 1, seq: 0 });
  }

  /** Show what is around a row. */
  showAround(position) {
    return this.#inTurn(async () => {
      if (this.#blockOf(position)) {
        return;
      }
      const before = await this.#rowsBefore(position, WINDOW_BYTES / 4);
      const behind = await this.#rowsBehind({ ...position, seq: position.seq - 1 }, WINDOW_BYTES / 4);
      await this.#showAnew([...before, ...behind.rows]);
      this.isAtTail = behind.isEnd;
    });
  }

  /** Print rows that follow the last one; only at the tail. */
  append(rows) {
    return this.#inTurn(() => {
      const { last } = this;
      return this.isAtTail ? this.#print(last ? rows.filter((row) => isBefore(last, row)) : rows) : undefined;
    });
  }

  /** Put earlier rows before what is shown; the reader's line stays where it is. */
  extendBack() {
    return this.#inTurn(async () => {
      this.#forgetTrimmed();
      if (!this.hasEarlier || !this.first) {
        return;
      }
      const earlier = await this.#rowsBefore(this.first, WINDOW_BYTES / 4);
      const kept = this.#blocks.flatMap((block) => block.rows);
      const rows = withinLimits([...earlier, ...kept]);
      const isCut = rows.length < earlier.length + kept.length;
      const linesFromTop = printed(earlier).lines;
      const hadLine = this.terminal.topLine;
      await this.#showAnew(rows);
      this.isAtTail &&= !isCut;
      this.terminal.scrollToLogicalLine(linesFromTop, hadLine);
    });
  }

  /** Go on at the end, where the window does not reach the tail yet. */
  extendForth() {
    return this.#inTurn(async () => {
      if (this.isAtTail || !this.last) {
        return;
      }
      const { rows, isEnd } = await this.#rowsBehind(this.last, BLOCK_BYTES * 2);
      await this.#print(rows);
      this.isAtTail = isEnd;
    });
  }

  /** The block that holds a row, which may be trimmed meanwhile; undefined if none does. */
  blockAt(position) {
    this.#forgetTrimmed();
    return this.#blockOf(position);
  }

  #blockOf(position) {
    return this.#blocks.find(({ rows }) => !isBefore(position, rows[0]) && !isBefore(rows.at(-1), position));
  }

  async #showAnew(rows) {
    this.#blocks = [];
    this.hasEarlier = rows.length > 0 && !isFirstOfAll(rows[0]);
    await this.terminal.rewrite(() => this.#print(rows));
  }

  async #print(rows) {
    const room = BLOCK_BYTES - (this.#blocks.at(-1)?.bytes ?? BLOCK_BYTES);
    for (const part of inBlocks(rows, room)) {
      const before = this.#blocks.at(-1);
      const from = before?.end ?? START;
      const { text, lines, end } = printed(part, from);
      const written = { rows: part, lines, end, bytes: bytesOf(part) };
      if (before && before.bytes < BLOCK_BYTES) {
        before.rows.push(...part);
        Object.assign(before, { end, lines: before.lines + lines, bytes: before.bytes + written.bytes });
      } else {
        this.#blocks.push({ ...written, from, marker: this.terminal.mark() });
      }
      await this.terminal.write(text);
    }
    this.#trim();
  }

  /** Let go of the oldest blocks: the terminal trims its lines by itself, so only until it has. */
  #trim() {
    const size = (key) => this.#blocks.reduce((sum, block) => sum + block[key], 0);
    while (this.#blocks.length > 1 && (size("bytes") > WINDOW_BYTES * 2 || size("lines") > WINDOW_LINES)) {
      const [oldest, next] = this.#blocks;
      this.terminal.trimBefore(next.marker);
      oldest.marker?.dispose();
      this.#blocks.shift();
      this.hasEarlier = true;
    }
  }

  #forgetTrimmed() {
    while (this.#blocks.length > 1 && this.#blocks[0].marker?.isDisposed) {
      this.#blocks.shift();
      this.hasEarlier = true;
    }
  }

  /** Rows before a position, of so many bytes at least where there are as many. */
  async #rowsBefore(position, bytes) {
    const pages = [];
    for (let size = 0, from = position; size < bytes;) {
      const rows = await this.pages.before(from);
      if (!rows.length) {
        break;
      }
      pages.unshift(rows);
      size += bytesOf(rows);
      from = rows[0];
    }
    return cutFront(pages.flat(), bytes);
  }

  async #rowsBehind(position, bytes) {
    const rows = [];
    for (let size = 0; size < bytes;) {
      const page = await this.pages.behind(rows.at(-1) ?? position, this.newestAttempt);
      if (!page.length) {
        return { rows, isEnd: true };
      }
      rows.push(...page);
      size += bytesOf(page);
    }
    return { rows, isEnd: false };
  }
}

function bytesOf(rows) {
  return rows.reduce((sum, row) => sum + row.log_chunk.length, 0);
}

function isBefore(a, b) {
  return a.attempt < b.attempt || (a.attempt === b.attempt && a.seq < b.seq);
}

function isFirstOfAll({ attempt, seq }) {
  return attempt === 1 && seq === 0;
}

/** The last rows, of little more than so many bytes. */
function cutFront(rows, bytes) {
  let [size, from] = [0, rows.length];
  while (from > 0 && size < bytes) {
    from -= 1;
    size += rows[from].log_chunk.length;
  }
  return rows.slice(from);
}

/** The first rows, as many as fit a window. */
function withinLimits(rows) {
  let [bytes, lines, to] = [0, 0, 0];
  while (to < rows.length && bytes < WINDOW_BYTES && lines < WINDOW_LINES) {
    bytes += rows[to].log_chunk.length;
    lines += printed([rows[to]]).lines;
    to += 1;
  }
  return rows.slice(0, to);
}

/** Rows in lists of a block's size; the first is what still fits the block before, if it has room. */
function inBlocks(rows, room) {
  const blocks = [];
  let size = Infinity;
  for (const row of rows) {
    if (size >= BLOCK_BYTES) {
      size = blocks.length || room <= 0 ? 0 : BLOCK_BYTES - room;
      blocks.push([]);
    }
    blocks.at(-1).push(row);
    size += row.log_chunk.length;
  }
  return blocks;
}
