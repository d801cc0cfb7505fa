/** Pages of a stored log, in either direction, over the borders of attempts. */

const PAGE_ROWS = 100; // of 10 KB as agents write them, of 64 KB at most

export class LogPages {
  /** @param {import("./api.js").Api} api */
  constructor(api, provisionId) {
    this.api = api;
    this.provisionId = provisionId;
  }

  /** The rows of one attempt above seq, a page at most. */
  after(attempt, seq, rows = PAGE_ROWS) {
    return this.api.logs(this.provisionId, { attempt, above: seq, rows });
  }

  /**
   * The rows before a position, in order, a page at most; none at the start of the log.
   * @param {{attempt: number, seq: number}} position seq may be Infinity
   */
  async before({ attempt, seq }, rows = PAGE_ROWS) {
    for (let of = attempt, below = seq; of >= 1; of -= 1, below = Infinity) {
      const found = below > 0 ? await this.api.logs(this.provisionId, { attempt: of, below, rows }) : [];
      if (found.length) {
        return found.reverse();
      }
    }
    return [];
  }

  /**
   * The rows behind a position, a page at most; none at the end of the log.
   * @param {number} newest number of the newest attempt
   */
  async behind({ attempt, seq }, newest) {
    for (let of = attempt, above = seq; of <= newest; of += 1, above = -1) {
      const found = await this.after(of, above);
      if (found.length) {
        return found;
      }
    }
    return [];
  }

  /** The whole log from a position on, page by page. */
  async *from(position, newest) {
    for (;;) {
      const rows = await this.behind(position, newest);
      if (!rows.length) {
        return;
      }
      yield rows;
      position = rows.at(-1);
    }
  }
}
