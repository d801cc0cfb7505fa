/**
 * The end of a log, live: every stored chunk once and in order, whatever the socket loses or doubles.
 *
 * Realtime delivers at most once, so its rows are only a faster way to what the database has. A row
 * that follows the last one is passed on; one that is early waits while the rows before it are
 * fetched. A gap that the database itself has, asked twice, is a true hole, and passed over: whoever
 * shows the rows sees it in their numbers.
 */

const PAUSE_MS = 700; // before the database is asked a second time about a gap

/**
 * @typedef {{attempt: number, seq: number, byte_offset: number, stream_type: string,
 *   log_chunk: string, created_at: string}} Row
 */

export class LogFeed {
  #attempt;
  #seq;
  #newest;
  #waiting = new Map();
  #running = null;
  #again = false;

  /**
   * @param {object} ports
   * @param {(attempt: number, seq: number) => Promise<Row[]>} ports.fetchAfter the next stored rows of
   *   the attempt above seq, a page at most; none where there are no more
   * @param {(rows: Row[]) => void} ports.onRows takes the rows that follow, in order
   * @param {(ms: number) => Promise<void>} [ports.pause]
   */
  constructor({ fetchAfter, onRows, pause = (ms) => new Promise((done) => setTimeout(done, ms)) }) {
    this.fetchAfter = fetchAfter;
    this.onRows = onRows;
    this.pause = pause;
    this.startBehind({ attempt: 1, seq: -1 });
  }

  /** What was passed on last; the next row is the one after it. */
  get position() {
    return { attempt: this.#attempt, seq: this.#seq };
  }

  /** Go on behind this row, wherever the feed was. */
  startBehind({ attempt, seq }) {
    this.#attempt = attempt;
    this.#seq = seq;
    this.#newest = Math.max(this.#newest ?? 1, attempt);
    this.#waiting.clear();
  }

  /** The provision has this attempt now: once the one before is complete, go on with it. */
  expectAttempt(attempt) {
    this.#newest = Math.max(this.#newest, attempt);
  }

  /**
   * Take a row that came by the socket.
   * @param {Row} row
   * @returns {boolean} false: something before it is missing, so {@link catchUp} is due
   */
  offer(row) {
    if (this.#isKnown(row)) {
      return true;
    }
    this.expectAttempt(row.attempt);
    this.#waiting.set(keyOf(row.attempt, row.seq), row);
    this.#drain();
    return this.#waiting.size === 0;
  }

  /**
   * Fetch until the database has nothing more. Calls at the same time share the work.
   * @throws whatever fetching throws; what came before is passed on
   */
  catchUp() {
    this.#again = true;
    this.#running ??= this.#sweepUntilQuiet().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #sweepUntilQuiet() {
    while (this.#again) {
      this.#again = false;
      await this.#sweep();
    }
  }

  async #sweep() {
    let isSecondLook = false;
    for (;;) {
      const before = this.position;
      const newest = this.#newest; // an attempt is complete if another was known before this look
      for (const row of await this.fetchAfter(before.attempt, before.seq)) {
        if (!this.#isKnown(row)) {
          this.#waiting.set(keyOf(row.attempt, row.seq), row);
        }
      }
      if (this.#drain()) {
        isSecondLook = false;
        continue; // there may be another page
      }
      const next = this.#nextWaiting();
      if (next !== undefined && !isSecondLook) {
        isSecondLook = true;
        await this.pause(PAUSE_MS);
      } else if (next !== undefined) {
        this.#seq = next - 1; // a true hole
        this.#drain();
        isSecondLook = false;
      } else if (this.#attempt < newest) {
        this.#attempt += 1;
        this.#seq = -1;
      } else if (newest === this.#newest) {
        return;
      }
    }
  }

  #isKnown({ attempt, seq }) {
    return attempt < this.#attempt || (attempt === this.#attempt && seq <= this.#seq);
  }

  /** The number of the first row of this attempt that waits. */
  #nextWaiting() {
    const numbers = [...this.#waiting.values()]
      .filter((row) => row.attempt === this.#attempt && row.seq > this.#seq)
      .map((row) => row.seq);
    return numbers.length ? Math.min(...numbers) : undefined;
  }

  /** Pass on what follows; tell whether anything did. */
  #drain() {
    const rows = [];
    for (;;) {
      const key = keyOf(this.#attempt, this.#seq + 1);
      const row = this.#waiting.get(key);
      if (row === undefined) {
        break;
      }
      this.#waiting.delete(key);
      this.#seq = row.seq;
      rows.push(row);
    }
    if (rows.length) {
      this.onRows(rows);
    }
    return rows.length > 0;
  }
}

function keyOf(attempt, seq) {
  return `${attempt}:${seq}`;
}
