// Passages lit up in a text area: a copy of its text lies behind it, invisible but for the marks.

const COPIED = [
  ...["fontFamily", "fontSize", "fontWeight", "lineHeight", "letterSpacing", "textIndent", "tabSize", "wordBreak"],
  ...["paddingTop", "paddingRight", "paddingBottom", "paddingLeft", "overflowWrap", "whiteSpace"],
];
const backs = new WeakMap();

function back(field) {
  let copy = backs.get(field);
  if (copy) return copy;
  copy = document.createElement("div");
  copy.className = "lit";
  copy.setAttribute("aria-hidden", "true");
  field.before(copy);
  field.classList.add("has-lit");
  const follow = () => {
    copy.scrollTop = field.scrollTop;
  };
  const fit = () => {
    const style = getComputedStyle(field);
    for (const name of COPIED) copy.style[name] = style[name];
    copy.style.left = `${field.offsetLeft + field.clientLeft}px`;
    copy.style.top = `${field.offsetTop + field.clientTop}px`;
    copy.style.width = `${field.clientWidth}px`;
    copy.style.height = `${field.clientHeight}px`;
    follow();
  };
  field.addEventListener("scroll", follow, { passive: true });
  new ResizeObserver(fit).observe(field);
  fit();
  backs.set(field, copy);
  return copy;
}

/** Light up `places` (`[{start, end}]`, UTF-16 units) of a text area; none takes the light away. */
export function highlight(field, places) {
  if (places.length === 0 && !backs.has(field)) return;
  const copy = back(field);
  const text = field.value;
  const parts = [];
  let done = 0;
  for (const { start, end } of [...places].sort((one, other) => one.start - other.start)) {
    if (start < done) continue;
    const mark = document.createElement("mark");
    mark.textContent = text.slice(start, end);
    parts.push(text.slice(done, start), mark);
    done = end;
  }
  // A last line that is empty has no height without something in it.
  parts.push(`${text.slice(done)}\n`);
  copy.replaceChildren(...parts);
  copy.scrollTop = field.scrollTop;
}
