/**
 * xterm.js as a place to read: nothing is typed, nothing that is printed commands it.
 *
 * The only module that knows xterm. Its keys scroll, and leave Tab and the browser's own shortcuts
 * alone, so nobody is caught in it.
 */

import { FitAddon } from "../vendor/addon-fit.mjs";
import { Terminal } from "../vendor/xterm.mjs";
import { SCROLLBACK } from "./log_window.js";

const EMPTY = "\x1b[0m\x1b[H\x1b[2J\x1b[3J";
const HOLD_FRAMES = "\x1b[?2026h"; // nothing is painted until they are released
const RELEASE_FRAMES = "\x1b[?2026l";

const THEME = {
  background: "#101513",
  foreground: "#d8e0da",
  cursor: "#101513",
  cursorAccent: "#101513",
  selectionBackground: "#3f6b52",
  selectionForeground: "#ffffff",
  scrollbarSliderBackground: "#8ea39733",
  scrollbarSliderHoverBackground: "#8ea39766",
  scrollbarSliderActiveBackground: "#8ea39788",
  black: "#6b7671",
  red: "#f2867b",
  green: "#7fcf9c",
  yellow: "#e6bd6a",
  blue: "#86b7ea",
  magenta: "#cda0e6",
  cyan: "#79c7c5",
  white: "#d8e0da",
  brightBlack: "#8c9892",
  brightRed: "#ff9d92",
  brightGreen: "#9be3b4",
  brightYellow: "#f2d08a",
  brightBlue: "#a5cbf3",
  brightMagenta: "#dcbaf0",
  brightCyan: "#9bdedc",
  brightWhite: "#ffffff",
};

export class LogTerminal {
  #fit = new FitAddon();
  #resize;

  /**
   * @param {HTMLElement} host
   * @param {(state: {isAtEnd: boolean, isAtStart: boolean}) => void} onView called when what is seen changes
   */
  constructor(host, onView) {
    this.term = new Terminal({
      disableStdin: true,
      scrollback: SCROLLBACK,
      theme: THEME,
      fontSize: 13,
      lineHeight: 1.3,
      fontFamily: 'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      cursorInactiveStyle: "none",
      cursorStyle: "bar",
      cursorWidth: 1,
      linkHandler: { activate: () => {} }, // a log's links lead where a stranger wants
    });
    this.term.loadAddon(this.#fit);
    openUnderPolicy(this.term, host);
    this.term.textarea.setAttribute("aria-label", "Log of the run: arrow keys, Page Up and Page Down scroll");
    this.term.attachCustomKeyEventHandler((event) => this.#scrollBy(event));
    this.term.onRender(() => onView(this.view));
    this.#resize = new ResizeObserver(() => this.#fit.fit());
    this.#resize.observe(host);
    this.#fit.fit();
  }

  get view() {
    const { viewportY, baseY } = this.term.buffer.active;
    return { isAtEnd: viewportY >= baseY, isAtStart: viewportY <= 2, canScroll: baseY > 0 };
  }

  /** Print; resolves once it is in the buffer. */
  write(text) {
    return new Promise((done) => this.term.write(text, done));
  }

  /** A mark at the line where the next text begins; it moves with the line, and goes with it. */
  mark() {
    return this.term.registerMarker(0);
  }

  /** Empty the terminal and let `print` fill it; what is between is never seen. */
  async rewrite(print) {
    await this.write(HOLD_FRAMES + EMPTY);
    try {
      await print();
    } finally {
      await this.write(RELEASE_FRAMES);
    }
  }

  /** Forget every line before a mark's. */
  trimBefore(marker) {
    if (marker && !marker.isDisposed && marker.line > 0) {
      const lines = this.term.buffer.active.length - marker.line;
      this.term.options.scrollback = Math.max(0, lines - this.term.rows);
      this.term.options.scrollback = SCROLLBACK;
    }
  }

  scrollToEnd() {
    this.term.scrollToBottom();
  }

  scrollToStart() {
    this.term.scrollToTop();
  }

  /** How many line feeds of the buffer are above what is seen. */
  get topLine() {
    return this.#logicalLinesBefore(this.term.buffer.active.viewportY);
  }

  /** Put the line that follows so many line feeds at the top. */
  scrollToLogicalLine(...counts) {
    this.term.scrollToLine(
      this.#rowOf(
        counts.reduce((a, b) => a + b, 0),
        0,
      ),
    );
  }

  /**
   * Select `length` characters of a line and bring them into sight.
   * @param {object} marker where counting begins
   * @param {number} lineFeeds from there
   * @param {string} wanted what is there, in lower case
   * @param {number} column where about in the line
   */
  reveal(marker, lineFeeds, wanted, column) {
    const row = this.#rowOf(lineFeeds, marker?.line ?? 0);
    const text = this.#logicalLine(row).toLowerCase();
    const at = wanted ? closest(text, wanted, column) : 0;
    const top = row + Math.floor(Math.max(0, at) / this.term.cols);
    this.term.scrollToLine(Math.max(0, top - Math.floor(this.term.rows / 3)));
    if (at >= 0) {
      this.term.select(at % this.term.cols, top, wanted ? wanted.length : text.length);
    }
  }

  get selection() {
    return this.term.getSelection();
  }

  clearSelection() {
    this.term.clearSelection();
  }

  focus() {
    this.term.focus();
  }

  dispose() {
    this.#resize.disconnect();
    this.term.dispose();
  }

  #logicalLinesBefore(row) {
    let count = 0;
    for (let y = 1; y <= row; y += 1) {
      count += this.term.buffer.active.getLine(y)?.isWrapped ? 0 : 1;
    }
    return count;
  }

  /** The row of the buffer where the line begins that follows so many line feeds behind `from`. */
  #rowOf(lineFeeds, from) {
    const { active } = this.term.buffer;
    let row = from;
    for (let left = lineFeeds; left > 0 && row < active.length - 1;) {
      row += 1;
      left -= active.getLine(row)?.isWrapped ? 0 : 1;
    }
    while (row > 0 && active.getLine(row)?.isWrapped) {
      row -= 1;
    }
    return row;
  }

  #logicalLine(row) {
    const { active } = this.term.buffer;
    let text = active.getLine(row)?.translateToString(false) ?? "";
    for (let y = row + 1; active.getLine(y)?.isWrapped; y += 1) {
      text += active.getLine(y).translateToString(false);
    }
    return text.trimEnd();
  }

  /** Scroll by keys; false leaves the key to the browser, which is all that xterm may do with it. */
  #scrollBy(event) {
    const { rows } = this.term;
    const by = { ArrowUp: -1, ArrowDown: 1, PageUp: 1 - rows, PageDown: rows - 1 }[event.key];
    const to = { Home: () => this.scrollToStart(), End: () => this.scrollToEnd() }[event.key];
    if (event.type === "keydown" && !event.ctrlKey && !event.metaKey && !event.altKey && (by || to)) {
      event.preventDefault();
      by ? this.term.scrollLines(by) : to();
    }
    return false;
  }
}

function closest(text, wanted, column) {
  let best = -1;
  for (let at = text.indexOf(wanted); at !== -1; at = text.indexOf(wanted, at + 1)) {
    if (best === -1 || Math.abs(at - column) < Math.abs(best - column)) {
      best = at;
    }
  }
  return best;
}

/**
 * Open a terminal although the page allows no inline style: xterm puts its rules into style elements,
 * made while it opens. Theirs go into sheets that scripts may make, which the policy does not mean.
 */
function openUnderPolicy(term, host) {
  const native = document.createElement;
  document.createElement = function createElement(name, ...rest) {
    return name === "style" ? asSheet(native.call(document, "template")) : native.call(document, name, ...rest);
  };
  try {
    term.open(host);
  } finally {
    delete document.createElement; // the prototype's own again
  }
}

function asSheet(element) {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", { set: (css) => sheet.replaceSync(css) });
  element.remove = () => {
    const others = document.adoptedStyleSheets.filter((one) => one !== sheet);
    document.adoptedStyleSheets = others;
    Element.prototype.remove.call(element);
  };
  return element;
}
