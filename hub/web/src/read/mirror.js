// A picture of a textarea's text behind it, in the same letters: what stands out in the text is painted there, and it
// tells where on the screen a place of the text is.

const mirrors = new WeakMap();

function mirrorOf(area) {
  let mirror = mirrors.get(area);
  if (mirror) return mirror;
  mirror = area.parentElement.querySelector(".ed-mirror");
  mirrors.set(area, mirror);
  const { padding, font, lineHeight, letterSpacing } = getComputedStyle(area);
  Object.assign(mirror.style, { padding, font, lineHeight, letterSpacing });
  const follow = () => {
    mirror.scrollTop = area.scrollTop;
  };
  area.addEventListener("scroll", follow, { passive: true });
  new ResizeObserver(() => {
    widen(area, mirror);
    follow();
  }).observe(area);
  return mirror;
}

/** As wide as the text is, whether or not there is a scroll bar; with the borders, which clientWidth leaves out. */
function widen(area, mirror) {
  mirror.style.width = `${area.clientWidth + 2 * area.clientLeft}px`;
}

/** Paint `marks` ([{start, end, kind}], apart from each other) behind the text. */
export function paint(area, marks) {
  const mirror = mirrorOf(area);
  const text = area.value;
  const parts = [];
  let at = 0;
  for (const { start, end, kind } of [...marks].sort((one, two) => one.start - two.start)) {
    if (start < at) continue;
    parts.push(text.slice(at, start));
    const mark = document.createElement("mark");
    mark.className = `ed-${kind}`;
    mark.textContent = text.slice(start, end);
    parts.push(mark);
    at = end;
  }
  // A last line that is empty has its height only with something in it.
  parts.push(`${text.slice(at)}\u200b`);
  mirror.replaceChildren(...parts);
  widen(area, mirror);
  mirror.scrollTop = area.scrollTop;
}

/** Where the text's place `index` is on the screen: {x, top, bottom}. */
export function placeOf(area, index) {
  const mirror = mirrorOf(area);
  const walker = document.createTreeWalker(mirror, NodeFilter.SHOW_TEXT);
  let left = index;
  let node = walker.nextNode();
  while (node && left > node.data.length) {
    left -= node.data.length;
    node = walker.nextNode();
  }
  const box = area.getBoundingClientRect();
  if (!node) return { x: box.left, top: box.top, bottom: box.top + 20 };
  const range = document.createRange();
  range.setStart(node, Math.min(left, node.data.length));
  range.collapse(true);
  const found = range.getBoundingClientRect();
  const top = Math.min(Math.max(found.top, box.top), box.bottom - 20);
  return { x: found.left || box.left, top, bottom: Math.min(top + (found.height || 20), box.bottom) };
}
