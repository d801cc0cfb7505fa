/** The search field over a log: counts in all of it, and goes from one match to the next. */

import { button, h, icon, setText } from "./dom.js";
import { errors, lineFeedsTo, occurrences, searched } from "./log_search.js";

const WAIT_MS = 250; // for the next key

export class FindBar {
  #hits = [];
  #at = -1;
  #wanted = "";
  #search = new AbortController();
  #timer = null;

  /** @param {import("./log_panel.js").LogPanel} panel */
  constructor(panel) {
    this.panel = panel;
    this.input = h("input", {
      type: "search",
      placeholder: "Search the log",
      "aria-label": "Search the log",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#soon(),
      onkeydown: (event) => this.#key(event),
    });
    this.said = h("span", { class: "find-said", role: "status" });
    const step = (label, by, iconName) =>
      button(label, () => this.#step(by), { iconOnly: true, iconName, kind: "quiet" });
    this.element = h(
      "div",
      { class: "find", role: "search" },
      icon("search"),
      this.input,
      this.said,
      step("Previous match", -1, "up"),
      step("Next match", 1, "next"),
    );
  }

  /** Show the first line of the log that says an error. */
  async goToFirstError() {
    setText(this.said, "looking …");
    for await (const { hits } of searched(this.panel.allPages(), errors, this.#fresh(), 1)) {
      if (hits.length) {
        setText(this.said, "");
        await this.#show(hits[0], "");
        return;
      }
    }
    setText(this.said, "no error");
  }

  #fresh() {
    this.#search.abort();
    this.#search = new AbortController();
    return this.#search.signal;
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#start(), WAIT_MS);
  }

  #key(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(this.#timer);
      this.input.value === this.#wanted ? this.#step(event.shiftKey ? -1 : 1) : this.#start();
    } else if (event.key === "Escape") {
      this.input.value = "";
      this.#start();
    }
  }

  async #start() {
    const signal = this.#fresh();
    this.#wanted = this.input.value;
    this.#hits = [];
    this.#at = -1;
    this.panel.terminal.clearSelection();
    setText(this.said, "");
    if (!this.#wanted) {
      return;
    }
    try {
      for await (const { hits, isComplete } of searched(
        this.panel.allPages(),
        occurrences(this.#wanted),
        signal,
      )) {
        if (signal.aborted) {
          return;
        }
        this.#hits = hits;
        this.#say(isComplete);
        if (this.#at < 0 && hits.length) {
          this.#step(1);
        }
      }
    } catch (error) {
      setText(this.said, error.message);
    }
  }

  #say(isComplete) {
    const of = `${this.#hits.length}${isComplete ? "" : "+"}`;
    setText(
      this.said,
      this.#hits.length ? `${this.#at + 1} of ${of}` : isComplete ? "not found" : "searching …",
    );
    this.isComplete = isComplete;
  }

  #step(by) {
    if (this.#hits.length) {
      this.#at = (this.#at + by + this.#hits.length) % this.#hits.length;
      this.#say(this.isComplete);
      this.#show(this.#hits[this.#at], this.#wanted.toLowerCase());
    }
  }

  #show(hit, wanted) {
    return this.panel.goTo(hit, (block) =>
      this.panel.terminal.reveal(block.marker, lineFeedsTo(hit, block), wanted, hit.column),
    );
  }
}
