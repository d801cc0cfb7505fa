/**
 * What a log may do to a terminal: colours, and nothing else. Pure.
 *
 * Output of templates is a stranger's text. Without this, one escape sequence could erase what was
 * printed before it, and a log that lies is worse than none. The same rules as the command line's.
 */

const CONTROL = new RegExp(
  [
    "(\\x1b\\[[0-9;:]*m)", // colours stay
    "\\x1b[\\]PX^_][^\\x07\\x1b\\x9c]*(?:\\x07|\\x1b\\\\|\\x9c)?", // titles, clipboards, links
    "(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*[@-~]?", // cursor movements, erasing, modes
    "\\x1b[ -/]*[0-~]?",
    "(\\r(?!\\n))", // a progress bar's return: each state keeps its line
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]",
    "[\\u202a-\\u202e\\u2066-\\u2069]", // text that reads otherwise than it is written
  ].join("|"),
  "g",
);
const TRUE_COLOUR = /(38|48)([;:])2(?:\2\2?(\d{1,3}))\2(\d{1,3})\2(\d{1,3})/g;

/**
 * The text without what would command a terminal.
 * @param {string} text
 * @param {boolean} colours keep them
 */
export function harmless(text, colours = true) {
  return text.replace(CONTROL, (_, colour, lone) => {
    if (colour) {
      return colours ? colour.replace(TRUE_COLOUR, nearestOf256) : "";
    }
    return lone ? "\n" : "";
  });
}

/** Of 16 million colours the nearest of the 256 that have a class: the policy allows no inline style. */
function nearestOf256(_, layer, between, red, green, blue) {
  const [r, g, b] = [red, green, blue].map((part) => Math.round((Math.min(255, Number(part)) / 255) * 5));
  return `${layer}${between}5${between}${16 + 36 * r + 6 * g + b}`;
}
