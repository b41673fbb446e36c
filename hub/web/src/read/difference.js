// What changed between two texts, by words; Chinese by characters.

/** Longest common subsequence of two short lists, as [kind, item] with kind "=", "-", "+". */
function compare(before, after) {
  const table = Array.from({ length: before.length + 1 }, () => new Uint16Array(after.length + 1));
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      table[i][j] = before[i] === after[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    }
  }
  const found = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      found.push(["=", before[i]]);
      i += 1;
      j += 1;
    } else if (j >= after.length || (i < before.length && table[i + 1][j] >= table[i][j + 1])) {
      found.push(["-", before[i]]);
      i += 1;
    } else {
      found.push(["+", after[j]]);
      j += 1;
    }
  }
  return found;
}

const pieces = (text) => text.match(/[A-Za-z0-9.]+|\s+|[^A-Za-z0-9.\s]/gu) ?? [];

/** The way from one text to the other: [["=" | "-" | "+", text], …]. */
export function difference(before, after) {
  const [one, two] = [pieces(before), pieces(after)];
  return one.length * two.length > 4000000 ? [["-", before], ["+", after]] : compare(one, two);
}

/** As elements: span, del, ins. */
export const marked = (parts) =>
  parts.map(([kind, text]) => {
    const element = document.createElement({ "=": "span", "-": "del", "+": "ins" }[kind]);
    element.textContent = text;
    return element;
  });
