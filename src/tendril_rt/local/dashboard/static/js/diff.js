/** Which lines differ between two texts: a longest common subsequence, after equal ends are set aside. */

const MAX_CELLS = 4_000_000; // of the table; beyond it the middle counts as replaced

/**
 * @param {string} before
 * @param {string} after
 * @returns {{kind: "same"|"removed"|"added", text: string}[]}
 */
export function lineDiff(before, after) {
  const [a, b] = [before.split("\n"), after.split("\n")];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) {
    head += 1;
  }
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) {
    tail += 1;
  }
  const middle = between(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  return [...marked("same", a.slice(0, head)), ...middle, ...marked("same", a.slice(a.length - tail))];
}

function marked(kind, lines) {
  return lines.map((text) => ({ kind, text }));
}

function between(a, b) {
  if (a.length * b.length > MAX_CELLS) {
    return [...marked("removed", a), ...marked("added", b)];
  }
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const lines = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      lines.push({ kind: "same", text: a[i] });
      i += 1;
      j += 1;
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
      lines.push({ kind: "removed", text: a[i] });
      i += 1;
    } else {
      lines.push({ kind: "added", text: b[j] });
      j += 1;
    }
  }
  return [...lines, ...marked("removed", a.slice(i)), ...marked("added", b.slice(j))];
}
