// A short list beside the cursor, kept by keys while the cursor stays in the text.
import { $ } from "./page.js";
import { placeOf } from "./mirror.js";

let items = [];
let at = -1;
let pick = null;

const box = () => $("ed-pop");

export const open = () => items.length > 0;
export const chosen = () => items[at] ?? null;

export function close() {
  if (items.length === 0) return;
  items = [];
  at = -1;
  box().hidden = true;
}

function draw() {
  [...box().children].forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
  box().children[at]?.scrollIntoView({ block: "nearest" });
}

/** Go up or down in the list; beyond an end, to the other. */
export function step(by) {
  at = at < 0 && by < 0 ? items.length - 1 : (at + by + items.length) % items.length;
  draw();
}

/**
 * Show a list at a place of a textarea's text.
 * @param {Array} list [{text, hint}]; `onPick(item)` is called for a click, and by `take()`
 */
export function show(area, index, list, onPick) {
  items = list;
  at = -1;
  pick = onPick;
  const element = box();
  element.replaceChildren(
    ...list.map((one, number) => {
      const item = document.createElement("li");
      item.setAttribute("role", "option");
      const hint = document.createElement("kbd");
      hint.textContent = one.hint ?? String(number + 1);
      item.append(hint, one.text);
      item.addEventListener("mousedown", (event) => {
        event.preventDefault();
        take(one);
      });
      return item;
    }),
  );
  element.hidden = list.length === 0;
  if (list.length === 0) return;
  draw();
  const place = placeOf(area, index);
  const width = element.offsetWidth;
  const height = element.offsetHeight;
  element.style.left = `${Math.max(4, Math.min(place.x, window.innerWidth - width - 8))}px`;
  const below = place.bottom + 4;
  element.style.top = `${below + height > window.innerHeight - 8 ? Math.max(4, place.top - height - 4) : below}px`;
}

export function take(item = chosen()) {
  const done = pick;
  close();
  if (item) done?.(item);
}
