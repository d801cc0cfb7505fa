/**
 * JSON without losing a digit: numbers stay the text that they are written as.
 *
 * JSON.parse makes 12345678901234567 into 12345678901234568, and a cluster of the wrong size out of
 * it. The same rules as the agent's reader: a key that stands twice is refused, and so is nesting
 * that nobody meant.
 */

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const WORDS = new Map([
  ["true", true],
  ["false", false],
  ["null", null],
]);

/** A number as it was written. */
export class Num {
  /** @param {string} text valid JSON */
  constructor(text) {
    this.text = text;
  }

  get isInteger() {
    return /^-?[0-9]+$/.test(this.text);
  }
}

/** The text is not JSON; `offset` says where, in UTF-16 units. */
export class JsonError extends Error {
  constructor(message, text, offset) {
    const before = text.slice(0, offset).split("\n");
    super(`line ${before.length}, column ${before.at(-1).length + 1}: ${message}`);
    this.name = "JsonError";
    this.offset = offset;
  }
}

/**
 * Parse a text; objects become Maps, so that no key is special, numbers become {@link Num}.
 * @param {string} text
 * @throws {JsonError}
 */
export function parse(text) {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.skipSpace();
  if (reader.at < text.length) {
    reader.fail("something follows the end of the JSON");
  }
  return value;
}

/**
 * The text of a value as {@link parse} makes them; plain strings, booleans and null too.
 * @param {*} value
 * @param {number} indent spaces per level; 0 is one line
 */
export function stringify(value, indent = 0, level = 0) {
  const [open, between, close] = indent
    ? [
        "\n" + " ".repeat(indent * (level + 1)),
        ",\n" + " ".repeat(indent * (level + 1)),
        "\n" + " ".repeat(indent * level),
      ]
    : ["", ", ", ""];
  if (value instanceof Num) {
    return value.text;
  }
  if (value instanceof Map) {
    const members = [...value].map(
      ([key, item]) => `${JSON.stringify(key)}: ${stringify(item, indent, level + 1)}`,
    );
    return members.length ? `{${open}${members.join(between)}${close}}` : "{}";
  }
  if (Array.isArray(value)) {
    const items = value.map((item) => stringify(item, indent, level + 1));
    return items.length ? `[${open}${items.join(between)}${close}]` : "[]";
  }
  return JSON.stringify(value);
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  fail(message, at = this.at) {
    throw new JsonError(message, this.text, at);
  }

  /** Return what the sticky pattern matches here, and go behind it; null if it does not. */
  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) {
      this.at = pattern.lastIndex;
    }
    return found && found[0];
  }

  skipSpace() {
    this.take(SPACE);
  }

  value(depth) {
    this.skipSpace();
    const first = this.text[this.at];
    if (depth > MAX_DEPTH) {
      this.fail(`nested more than ${MAX_DEPTH} deep`);
    }
    if (first === "{") {
      return this.object(depth);
    }
    if (first === "[") {
      return this.list(depth);
    }
    if (first === '"') {
      return this.string();
    }
    for (const [word, value] of WORDS) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    const number = this.take(NUMBER);
    if (number === null) {
      this.fail(first === undefined ? "the text ends too early" : "a value is expected here");
    }
    return new Num(number);
  }

  string() {
    const from = this.at;
    const raw = this.take(STRING);
    if (raw === null) {
      this.fail("a text in double quotes is expected here, without line breaks");
    }
    const text = JSON.parse(raw);
    if (!text.isWellFormed?.() && /[\ud800-\udfff]/.test(text.replace(/[\ud800-\udbff][\udc00-\udfff]/g, ""))) {
      this.fail("half a character, which no file can hold", from);
    }
    return text;
  }

  object(depth) {
    const members = new Map();
    this.at += 1;
    this.skipSpace();
    while (this.text[this.at] !== "}") {
      const from = this.at;
      const key = this.string();
      if (members.has(key)) {
        this.fail(`the key ${JSON.stringify(key)} stands twice`, from);
      }
      this.skipSpace();
      this.expect(":");
      members.set(key, this.value(depth + 1));
      this.separator("}");
    }
    this.at += 1;
    return members;
  }

  list(depth) {
    const items = [];
    this.at += 1;
    this.skipSpace();
    while (this.text[this.at] !== "]") {
      items.push(this.value(depth + 1));
      this.separator("]");
    }
    this.at += 1;
    return items;
  }

  expect(sign) {
    if (this.text[this.at] !== sign) {
      this.fail(`"${sign}" is expected here`);
    }
    this.at += 1;
  }

  /** Go behind a comma that something follows, or stay before the end. */
  separator(end) {
    this.skipSpace();
    if (this.text[this.at] === end) {
      return;
    }
    this.expect(",");
    this.skipSpace();
    if (this.text[this.at] === end) {
      this.fail(`nothing follows the comma before "${end}"`);
    }
  }
}
