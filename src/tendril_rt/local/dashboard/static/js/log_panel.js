/**
 * The live terminal of one run: the newest output as it comes, the whole log on demand.
 *
 * The feed knows the end of the log, the window what is shown. While the reader is elsewhere, or has
 * paused it, nothing is printed under his eyes; what came meanwhile is counted, and one button away.
 */

import { toast } from "./dialog.js";
import { button, h, setAttribute, setText } from "./dom.js";
import { LogFeed } from "./log_feed.js";
import { LogPages } from "./log_pages.js";
import { FindBar } from "./log_find.js";
import { countLines } from "./log_text.js";
import { LogWindow } from "./log_window.js";
import { LogTerminal } from "./terminal.js";

const PENDING_BYTES = 256 * 1024; // kept for a reader who looks away; more is looked up again
const COPY_BYTES = 16 * 1024 * 1024;

export class LogPanel {
  #missed = { rows: [], bytes: 0, lines: 0 };
  #isFollowing = true;
  #isOpen = false;
  #isMoving = false;
  #isRestarting = false;

  /** @param {import("./main.js").Context} context */
  constructor({ api, signal, report }, provisionId) {
    this.provisionId = provisionId;
    this.report = report;
    this.pages = new LogPages(api, provisionId);
    this.feed = new LogFeed({
      fetchAfter: (attempt, seq) => this.pages.after(attempt, seq),
      onRows: (rows) => this.#take(rows),
    });
    this.host = h("div", { class: "term-host" });
    this.followButton = button("Pause", () => this.#toggleFollow(), { iconName: "pause" });
    this.news = button("", () => this.goToEnd(), { kind: "primary news", iconName: "next", hidden: true });
    this.note = h("p", { class: "term-note" }, "Nothing was printed yet.");
    this.find = new FindBar(this);
    const tool = (label, work, iconName) => button(label, work, { iconName, iconOnly: true, kind: "quiet" });
    this.element = h(
      "section",
      { class: "terminal card", "aria-label": "Log" },
      h(
        "div",
        { class: "term-bar" },
        this.find.element,
        h(
          "div",
          { class: "term-tools" },
          tool("First error", () => this.find.goToFirstError(), "error"),
          tool("Start of the log", () => this.#goToStart(), "top"),
          tool("Copy", () => this.#copy(), "copy"),
          tool("Download", () => this.#download(), "down"),
          this.followButton,
        ),
      ),
      h("div", { class: "term-place" }, this.host, this.note, this.news),
    );
    signal.addEventListener("abort", () => this.terminal?.dispose());
  }

  /** Show the end of the log, unless it is shown already; the element must be in the page. */
  async open(newestAttempt) {
    if (this.#isOpen) {
      return;
    }
    this.terminal ??= new LogTerminal(this.host, (view) => this.#seen(view));
    this.window ??= new LogWindow(this.pages, this.terminal);
    this.expectAttempt(newestAttempt);
    await this.#showEnd();
    this.#isOpen = true;
  }

  /** The newest attempt of the provision. */
  expectAttempt(attempt) {
    if (attempt > 0) {
      this.window.newestAttempt = attempt;
      this.feed.expectAttempt(attempt);
    }
  }

  /** Take a row that came by the socket. */
  offer(row) {
    if (this.#isOpen && !this.feed.offer(row)) {
      this.catchUp();
    }
  }

  /** Fetch what the socket may have lost. */
  async catchUp() {
    if (this.#isOpen) {
      try {
        await this.feed.catchUp();
      } catch (error) {
        this.report(error);
      }
    }
  }

  /** The whole log from its start. */
  allPages() {
    return this.pages.from({ attempt: 1, seq: -1 }, this.window.newestAttempt);
  }

  async goToEnd() {
    this.#setFollowing(true);
    if (this.window.isAtTail && this.#missed.bytes <= PENDING_BYTES) {
      const { rows } = this.#forgetMissed();
      await this.window.append(rows);
      this.terminal.scrollToEnd();
    } else {
      await this.#move(() => this.#showEnd());
    }
    this.#mark();
  }

  /** Show a place of the log, and stay there. */
  async goTo(position, reveal) {
    this.#setFollowing(false);
    this.#isMoving = true;
    try {
      await this.window.showAround(position);
      const block = this.window.blockAt(position);
      if (block) {
        reveal(block);
      }
    } finally {
      this.#isMoving = false;
    }
    this.#mark();
  }

  /** Begin anew at the end; what the feed passes on meanwhile is fetched again behind it. */
  async #showEnd() {
    this.#isRestarting = true;
    try {
      await this.window.showEnd();
      this.feed.startBehind(this.window.last ?? { attempt: 1, seq: -1 });
      this.feed.expectAttempt(this.window.newestAttempt);
      this.#forgetMissed();
    } finally {
      this.#isRestarting = false;
    }
    this.#mark();
    await this.catchUp();
  }

  async #goToStart() {
    this.#setFollowing(false);
    await this.window.showStart();
    this.terminal.scrollToStart();
    this.#mark();
  }

  /** Rows that follow the last ones of the feed. */
  #take(rows) {
    if (this.#isRestarting) {
      return;
    }
    if (this.#isFollowing && this.window.isAtTail && !this.#missed.lines) {
      this.window.append(rows).then(() => {
        this.#mark();
      });
      return;
    }
    for (const row of rows) {
      this.#missed.lines += countLines(row.log_chunk) || 1;
      this.#missed.bytes += row.log_chunk.length;
      if (this.#missed.bytes <= PENDING_BYTES) {
        this.#missed.rows.push(row);
      }
    }
    this.#showNews();
  }

  #forgetMissed() {
    const missed = this.#missed;
    this.#missed = { rows: [], bytes: 0, lines: 0 };
    this.#showNews();
    return missed;
  }

  #showNews() {
    const { lines } = this.#missed;
    this.news.hidden = lines === 0;
    setText(this.news.querySelector("span"), `${lines} new line${lines === 1 ? "" : "s"}`);
  }

  /** What is seen has changed: follow, stop following, or fetch what comes next. */
  #seen({ isAtEnd, isAtStart, canScroll }) {
    if (!this.#isOpen || this.#isMoving) {
      return;
    }
    if (isAtEnd !== this.#isFollowing && canScroll && !(isAtEnd && this.wasPaused)) {
      this.#setFollowing(isAtEnd && this.window.isAtTail);
    }
    if (isAtStart && !isAtEnd && this.window.hasEarlier) {
      this.#move(() => this.window.extendBack());
    } else if (isAtEnd && !this.window.isAtTail) {
      this.#move(() => this.window.extendForth());
    } else if (isAtEnd && this.window.isAtTail && this.#missed.lines && !this.wasPaused) {
      this.#move(() => this.goToEnd());
    }
  }

  async #move(change) {
    this.#isMoving = true;
    try {
      await change();
    } catch (error) {
      this.report(error);
    } finally {
      this.#isMoving = false;
    }
    this.#mark();
  }

  #toggleFollow() {
    if (this.#isFollowing) {
      this.wasPaused = true;
      this.#setFollowing(false);
    } else {
      this.goToEnd();
    }
  }

  #setFollowing(isFollowing) {
    if (isFollowing) {
      this.wasPaused = false;
    }
    this.#isFollowing = isFollowing;
    setText(this.followButton.querySelector("span"), isFollowing ? "Pause" : "Follow");
    setAttribute(this.followButton, "data-following", isFollowing ? "true" : null);
  }

  /** Say on the element what is shown: for styles, and for whoever looks from outside. */
  #mark() {
    const { first, last } = this.window;
    const name = (row) => row && `${row.attempt}:${row.seq}`;
    setAttribute(this.element, "data-first", name(first));
    setAttribute(this.element, "data-last", name(last));
    this.note.hidden = Boolean(last);
  }

  async #copy() {
    const chosen = this.terminal.selection;
    const text = chosen || (await this.#text(COPY_BYTES));
    await navigator.clipboard.writeText(text);
    toast(
      chosen
        ? "Copied what is selected"
        : `Copied ${text.length === COPY_BYTES ? "the first 16 MB; download it for the rest" : "the whole log"}`,
    );
  }

  async #text(most) {
    let text = "";
    for await (const rows of this.allPages()) {
      text += rows.map((row) => row.log_chunk).join("");
      if (text.length >= most) {
        return text.slice(0, most);
      }
    }
    return text;
  }

  /** Save the log as it is stored, escape sequences and all. */
  async #download() {
    const parts = [];
    try {
      for await (const rows of this.allPages()) {
        parts.push(new Blob(rows.map((row) => row.log_chunk)));
      }
    } catch (error) {
      toast(`The download stopped: ${error.message}`, "error");
      return;
    }
    const url = URL.createObjectURL(new Blob(parts, { type: "text/plain" }));
    h("a", { href: url, download: `provision-${this.provisionId}.log` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}
