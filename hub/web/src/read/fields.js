// Fields of a template in a text: `[侧:左|右]`, `[__ mm]`, `[…]`. The server's side, with the syntax: hub/reports/texts/fields.py.
// Here: finding them, going from one to the next with Tab, and taking the brackets away once they are filled in.

const FIELD = /\[(?:([^[\]|:\uff1a\n_\u2026]{1,20})[:\uff1a])?([^[\]\n]*(?:\||__|\u2026)[^[\]\n]*)\]/g;
const HOLE = /__|\u2026/g;

/** The open fields of a text: [{start, end, name, choices, body, holes: [[start, end]…]}]. */
export function openFields(text) {
  return [...text.matchAll(FIELD)].map((match) => {
    const [whole, name = "", body] = match;
    const start = match.index;
    const end = start + whole.length;
    const choices = body.includes("|") && !body.includes("__") ? body.split("|").map((one) => one.trim()) : [];
    const inner = end - 1 - body.length;
    const holes = choices.length > 0 ? [[start, end]] : [...body.matchAll(HOLE)].map((hole) => [inner + hole.index, inner + hole.index + hole[0].length]);
    return { start, end, name, choices, body, holes: holes.length > 0 ? holes : [[start, end]] };
  });
}

/** Where the cursor may stop: [[start, end, field]…] in order. */
export const stops = (text) => openFields(text).flatMap((field) => field.holes.map(([start, end]) => [start, end, field]));

/** What is left of a bracket that was filled in: its text without name and brackets; null while something stands open. */
export function filled(text, start) {
  if (text[start] !== "[") return null;
  const end = text.slice(start).search(/[\]\n]/) + start;
  if (end <= start || text[end] !== "]") return null;
  const inner = text.slice(start + 1, end);
  if (/\||__|\u2026|\[/.test(inner)) return null;
  return { start, end: end + 1, text: inner.replace(/^[^:\uff1a]{1,20}[:\uff1a]/, "") };
}
