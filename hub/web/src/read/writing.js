// Writing in the form's texts: fields to fill in, phrases by abbreviation, and what stands out in the text.
import { t } from "../i18n.js";
import { filled, openFields, stops } from "./fields.js";
import { paint } from "./mirror.js";
import { $ } from "./page.js";
import * as pop from "./pop.js";

const AREAS = ["findings", "impression", "recommendation"];
const ABBREVIATION = /(?:^|[^A-Za-z0-9])([a-z][a-z0-9]+)$/;

export function attach(page) {
  // The bracket that was jumped into, until it is left: {area, start}.
  let inside = null;
  let typed = "";
  const painters = [];

  /** Let a feature mark places of the texts: `(name, text) => [{start, end, kind}]`; the style is `.ed-<kind>`. */
  page.painter = (painter) => painters.push(painter);
  page.painter((_name, text) => openFields(text).map(({ start, end }) => ({ start, end, kind: "field" })));

  page.paint = () => {
    for (const name of AREAS) {
      const area = $(name);
      if (area) paint(area, painters.flatMap((painter) => painter(name, area.value)));
    }
    tell();
  };

  /** How many fields stand open, beside the form. */
  function tell() {
    const found = AREAS.flatMap((name) => openFields(page.text.get(name)));
    const box = $("open-fields");
    if (!box) return;
    box.hidden = found.length === 0;
    if (found.length === 0) return;
    const names = [...new Set(found.map(({ name, body }) => name || body))].slice(0, 4).join(t("、"));
    box.querySelector("[data-count]").textContent = t("还有 {n} 处未填:{names}", { n: found.length, names });
  }

  // --- fields -----------------------------------------------------------------------------------------------------

  /** Take the brackets of the field that was filled in away; the cursor stays by its text. */
  function leave() {
    if (!inside) return;
    const { area, start } = inside;
    inside = null;
    const done = filled(area.value, start);
    if (!done) return;
    const shift = area.value.slice(done.start, done.end).indexOf(done.text);
    const at = Math.min(done.start + done.text.length, Math.max(done.start, area.selectionStart - shift));
    area.setRangeText(done.text, done.start, done.end, "preserve");
    area.setSelectionRange(at, at);
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function select(area, [start, end, field]) {
    area.focus({ preventScroll: true });
    area.setSelectionRange(start, end);
    inside = { area, start: field.start };
    typed = "";
    if (field.choices.length > 0) choose(area, field);
    else pop.close();
    // Into sight: the browser scrolls to a selection only when something is typed.
    const line = area.value.slice(0, start).split("\n").length - 1;
    const height = Number.parseFloat(getComputedStyle(area).lineHeight) || 22;
    if (line * height < area.scrollTop || (line + 2) * height > area.scrollTop + area.clientHeight) area.scrollTop = Math.max(0, (line - 2) * height);
  }

  function choose(area, field) {
    const list = field.choices.map((text) => ({ text }));
    pop.show(area, field.start, list, ({ text }) => {
      area.setSelectionRange(field.start, field.end);
      inside = null;
      page.insert(text, { name: area.name });
      jump(1);
    });
  }

  /** To the next open field (or the one before), through the texts; false where there is none. */
  function jump(by, from = document.activeElement) {
    leave();
    const names = AREAS.filter((name) => $(name));
    const here = Math.max(0, names.indexOf(from?.name));
    const order = by > 0 ? names.slice(here) : names.slice(0, here + 1).reverse();
    for (const name of order) {
      const area = $(name);
      const found = stops(area.value);
      const near =
        name !== names[here] || area !== from
          ? found.at(by > 0 ? 0 : -1)
          : by > 0
            ? found.find(([start, end]) => start > area.selectionStart || (start >= area.selectionEnd && end > area.selectionEnd))
            : found.findLast(([, end]) => end <= area.selectionStart);
      if (near) {
        select(area, near);
        return true;
      }
    }
    return false;
  }
  page.nextField = () => {
    const first = AREAS.map((name) => $(name)).find((area) => area && stops(area.value).length > 0);
    if (!first) return false;
    $("tab-report").click();
    select(first, stops(first.value)[0]);
    return true;
  };

  /** The choices that begin with what was typed: their text, or the initials of its pinyin. */
  function narrowed(field, letters) {
    const known = page.exam.editor.initials;
    const begins = (text) => text.toLowerCase().startsWith(letters) || (known[text] ?? "").startsWith(letters);
    return field.choices.filter(begins);
  }

  const current = (area) => openFields(area.value).find(({ start, end, choices }) => choices.length > 0 && area.selectionStart === start && area.selectionEnd === end);

  /** A key while a choice is open. */
  function choiceKey(event, area, field) {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      if (!pop.open()) choose(area, field);
      pop.step(key === "ArrowDown" ? 1 : -1);
      return true;
    }
    if ((key === "Enter" || key === "Tab") && pop.chosen() && !event.shiftKey) {
      pop.take();
      return true;
    }
    // Nothing is chosen by going on: who has not said which side leaves it open, where it is seen.
    if (key === "Enter") return true;
    if (/^[1-9]$/.test(key) && field.choices[Number(key) - 1] !== undefined) {
      choose(area, field);
      pop.take({ text: field.choices[Number(key) - 1] });
      return true;
    }
    if (/^[a-z]$/i.test(key)) {
      const left = narrowed(field, typed + key.toLowerCase());
      if (left.length === 0) return false;
      typed += key.toLowerCase();
      choose(area, field);
      if (left.length === 1) pop.take({ text: left[0] });
      else pop.step(field.choices.indexOf(left[0]) + 1);
      return true;
    }
    return false;
  }

  // --- phrases ----------------------------------------------------------------------------------------------------

  const before = (area) => (area.selectionStart === area.selectionEnd ? (ABBREVIATION.exec(area.value.slice(0, area.selectionStart))?.[1] ?? "") : "");
  const exact = (code) => page.exam.editor.phrases.find((one) => one.code === code);

  function expand(area, phrase, code) {
    const at = area.selectionStart - code.length;
    area.setSelectionRange(at, area.selectionStart);
    page.insert(phrase.text, { name: area.name });
    const first = stops(phrase.text)[0];
    if (first) select(area, stops(area.value).find(([start]) => start >= at));
  }

  /** What the abbreviation before the cursor may become. */
  function suggest(area) {
    const code = before(area);
    const list = code
      ? page.exam.editor.phrases.filter((one) => one.code.startsWith(code) || one.initials.startsWith(code)).slice(0, 7)
      : [];
    pop.show(
      area,
      area.selectionStart,
      list.map((one) => ({ text: one.text.length > 42 ? `${one.text.slice(0, 41)}\u2026` : one.text, hint: one.code, phrase: one })),
      ({ phrase }) => expand(area, phrase, code),
    );
  }

  // --- keys in the texts ------------------------------------------------------------------------------------------

  function onKeydown(event) {
    const area = event.target;
    if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey || !page.writes()) return;
    const field = current(area);
    if (field && choiceKey(event, area, field)) {
      event.preventDefault();
      return;
    }
    const code = before(area);
    if (!field && !code) pop.close();
    if (event.key === "Escape" && pop.open()) pop.close();
    else if (!field && pop.open() && (event.key === "ArrowDown" || event.key === "ArrowUp")) pop.step(event.key === "ArrowDown" ? 1 : -1);
    else if (!field && pop.chosen() && (event.key === "Enter" || event.key === "Tab")) pop.take();
    else if (code && (event.key === " " || event.key === "Tab") && !event.shiftKey && exact(code)) {
      pop.close();
      expand(area, exact(code), code);
    } else if (event.key === "Tab" && jump(event.shiftKey ? -1 : 1)) pop.open();
    else return;
    event.preventDefault();
  }

  // What comes below a text takes room from it: who writes at its end still sees what he writes.
  const room = new ResizeObserver((changed) => {
    for (const { target } of changed) {
      if (document.activeElement === target && target.selectionEnd === target.value.length) target.scrollTop = target.scrollHeight;
    }
  });

  page.on("panel", () => {
    inside = null;
    pop.close();
    room.disconnect();
    if (page.exam.mode === "view") return;
    for (const name of AREAS) {
      const area = $(name);
      room.observe(area);
      area.addEventListener("keydown", onKeydown);
      area.addEventListener("input", (event) => {
        if (!event.isComposing && document.activeElement === area) suggest(area);
      });
      area.addEventListener("blur", () => {
        pop.close();
        leave();
      });
      area.addEventListener("click", () => {
        pop.close();
        const field = openFields(area.value).find(({ start, end }) => area.selectionStart > start && area.selectionStart < end);
        if (field && area.selectionStart === area.selectionEnd) select(area, [...field.holes[0], field]);
      });
    }
    page.paint();
  });
  page.on("input", () => page.paint());
  page.on("change", () => page.paint());
  page.on("adopt", () => page.paint());
  page.act("next-field", () => page.nextField());
  // In a text only: elsewhere Tab goes where it always goes. The arrow keeps the list's entry from being a key of the page.
  page.key("Tab ⇥", t("下一处填空;缩写展开为短语"), () => page.nextField());
  for (const kind of ["submit", "sign"]) {
    page.before(kind, async () => {
      leave();
    });
  }
}
