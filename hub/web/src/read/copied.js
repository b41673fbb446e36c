// The last report beside this one: what is different, and sentences copied from it, each to be confirmed.
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { $, TEXTS } from "./page.js";

const COPIED = ["findings", "impression", "recommendation"];
const SENTENCE = /[^\u3002;\uff1b!\uff01?\uff1f\n]*[\u3002;\uff1b!\uff01?\uff1f]+|[^\u3002;\uff1b!\uff01?\uff1f\n]+/g;
const NAMES = { technique: () => t("检查技术"), comparison: () => t("对比"), findings: () => t("检查所见"), impression: () => t("诊断意见"), recommendation: () => t("建议") };

/** The sentences of a text with whether each begins a line; as hub/reports/texts/copied.py divides it. */
export const sentences = (text) =>
  text.split("\n").flatMap((line) => (line.match(SENTENCE) ?? []).filter((one) => one.trim()).map((one, index) => ({ text: one.trim(), first: index === 0 })));

export function attach(page) {
  // Copied and not confirmed: {id (once saved), field, text, source_id}.
  let marks = [];
  let shown = null;
  let different = false;
  let timer = 0;
  let turn = 0;

  const standing = () => marks.filter(({ field, text }) => page.text.get(field).includes(text));
  const sameMark = (one, two) => one.field === two.field && one.text === two.text;

  page.field("copied", {
    read: () => standing().map(({ field, text, source_id }) => ({ field, text, source_id })),
    write(value) {
      for (const one of value ?? []) if (!marks.some((mark) => sameMark(mark, one))) marks.push(one);
    },
    norm: () => null,
  });
  page.on("panel", () => {
    marks = page.exam.mode === "view" ? [] : [...(page.version?.copied ?? [])];
    show(null);
  });
  // What the hub has confirmed, or no longer finds in the text, goes; what was copied since it was asked stays.
  page.on("taken", ({ copied }) => {
    marks = [...copied, ...marks.filter((mark) => !mark.id && !copied.some((one) => sameMark(one, mark)))];
    page.paint();
    tell();
  });
  page.painter((name, text) =>
    marks
      .filter(({ field }) => field === name)
      .map((mark) => ({ start: text.indexOf(mark.text), end: text.indexOf(mark.text) + mark.text.length, kind: "copied" }))
      .filter(({ start }) => start >= 0),
  );

  function tell() {
    const box = $("open-copied");
    if (!box) return;
    const left = standing().length;
    box.hidden = left === 0;
    box.querySelector("[data-count]").textContent = t("{n} 句复制自既往报告,待确认", { n: left });
  }
  page.on("change", () => {
    tell();
    clearTimeout(timer);
    if (shown && different) timer = setTimeout(draw, 500);
  });

  // --- confirming -------------------------------------------------------------------------------------------------

  /** The sentence that is selected, if it waits. */
  function selected() {
    const area = document.activeElement;
    if (!COPIED.includes(area?.name)) return null;
    const text = area.value.slice(area.selectionStart, area.selectionEnd);
    return standing().find((mark) => mark.field === area.name && mark.text === text) ?? null;
  }

  function select(mark) {
    const area = $(mark.field);
    const start = area.value.indexOf(mark.text);
    $("tab-report").click();
    area.focus({ preventScroll: true });
    area.setSelectionRange(start, start + mark.text.length);
    const line = area.value.slice(0, start).split("\n").length - 1;
    const height = Number.parseFloat(getComputedStyle(area).lineHeight) || 22;
    area.scrollTop = Math.max(0, (line - 1) * height);
  }

  /** The next one that waits, in the order of the texts. */
  function following() {
    const place = ({ field, text }) => [COPIED.indexOf(field), page.text.get(field).indexOf(text)];
    return standing().sort((one, two) => {
      const [a, b] = [place(one), place(two)];
      return a[0] - b[0] || a[1] - b[1];
    })[0];
  }

  async function confirm(wanted) {
    if (!(await page.settled())) return;
    const ids = marks.filter((mark) => mark.id && wanted.some((one) => sameMark(one, mark))).map(({ id }) => id);
    page.take(await post(`/api/exams/${page.exam.exam_id}/report/copied/confirm`, { lease: page.lease, ids }));
  }

  const next = () =>
    page.once(async () => {
      if (!page.writes()) return;
      const mark = selected();
      if (mark) await confirm([mark]);
      const left = following();
      if (left) select(left);
      else if (mark) toast(t("复制的文字都已确认"), "ok", 3);
    });
  const all = () =>
    page.once(async () => {
      if (!page.writes() || standing().length === 0) return;
      await confirm(standing());
      toast(t("复制的文字都已确认"), "ok", 3);
    });

  for (const kind of ["submit", "sign"]) {
    page.before(kind, async () => {
      const first = following();
      if (!first) return null;
      select(first);
      return { veto: t("有 {n} 句复制自既往报告的文字还没有确认:Alt+C 逐句确认,或改写、删去", { n: standing().length }) };
    });
  }

  // --- beside -----------------------------------------------------------------------------------------------------

  function show(version) {
    shown = version;
    const box = $("beside");
    if (!box) return;
    box.hidden = !version;
    $("read").classList.toggle("is-beside", Boolean(version));
    page.panel.querySelector("[data-act=beside][aria-pressed]")?.setAttribute("aria-pressed", String(Boolean(version)));
    if (!version) return;
    const list = page.exam.copied.reports;
    $("beside-which").replaceChildren(...list.map((one) => new Option(`${one.title} · ${one.clinic}`, one.version_id, false, one === version)));
    draw();
  }

  async function draw() {
    turn += 1;
    const mine = turn;
    for (const [act, on] of [["beside-text", !different], ["beside-diff", different]]) {
      page.panel.querySelector(`[data-act=${act}]`)?.setAttribute("aria-pressed", String(on));
    }
    if (!different) {
      $("beside-body").replaceChildren(...TEXTS.filter((name) => shown.texts[name]).map(section));
      return;
    }
    const [before, after] = [shown.texts, page.collect()].map((body) => Object.fromEntries(TEXTS.map((name) => [name, body[name] ?? ""])));
    try {
      const { fields } = await post("/api/texts/difference", { before, after });
      if (mine !== turn || !shown) return;
      $("beside-body").replaceChildren(...TEXTS.filter((name) => fields[name]).map((name) => compared(name, fields[name])));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "warn");
    }
  }

  function head(name) {
    const title = document.createElement("div");
    title.className = "field-label";
    title.textContent = NAMES[name]();
    return title;
  }

  function section(name) {
    const part = document.createElement("section");
    part.className = "beside-part";
    part.append(head(name));
    if (!COPIED.includes(name)) {
      part.append(shown.texts[name]);
      return part;
    }
    const whole = document.createElement("button");
    whole.type = "button";
    whole.className = "btn btn--sm btn--ghost";
    whole.textContent = t("复制整段");
    whole.addEventListener("click", () => copy(name, sentences(shown.texts[name])));
    part.firstChild.append(" ", whole);
    for (const one of sentences(shown.texts[name])) {
      const line = document.createElement("button");
      line.type = "button";
      line.className = "beside-sentence";
      line.dataset.field = name;
      line.textContent = one.text;
      line.title = t("复制这一句");
      line.addEventListener("click", () => copy(name, [one]));
      part.append(line);
    }
    return part;
  }

  function compared(name, segments) {
    const part = document.createElement("section");
    part.className = "beside-part pre-line";
    part.append(head(name));
    for (const { kind, before, after } of segments) {
      if (kind === "same") part.append(before);
      else {
        for (const [tag, text] of [["del", before], ["ins", after]]) {
          if (!text) continue;
          const element = document.createElement(tag);
          element.textContent = text;
          part.append(element);
        }
      }
    }
    return part;
  }

  /** Put sentences at the end of their field, marked; one that stands there already is not written twice. */
  function copy(name, list) {
    if (!page.writes()) return;
    const fresh = list.filter(({ text }) => !page.text.get(name).includes(text));
    if (fresh.length === 0) {
      toast(t("正文里已有这段文字"), "info", 3);
      return;
    }
    let text = page.text.get(name).trimEnd();
    for (const one of fresh) {
      text += `${text && (one.first || list.length === 1) ? "\n" : ""}${one.text}`;
      const mark = { field: name, text: one.text, source_id: shown.version_id };
      marks = [...marks.filter((other) => !sameMark(other, mark)), mark];
    }
    page.text.set(name, text);
    page.changed();
  }

  function toggle() {
    const list = page.exam.copied.reports;
    if (shown) {
      show(null);
      $("findings")?.focus();
    } else if (list.length === 0) toast(t("没有既往报告"), "info", 3);
    else {
      $("tab-report").click();
      show(list[0]);
      $("beside-body").querySelector(".beside-sentence")?.focus();
    }
  }

  page.panel.addEventListener("change", ({ target }) => {
    if (target.id === "beside-which") show(page.exam.copied.reports.find((one) => one.version_id === target.value));
  });
  page.panel.addEventListener("keydown", (event) => {
    const line = event.target.closest(".beside-sentence");
    if (event.key === "Escape" && event.target.closest("#beside")) {
      event.preventDefault();
      $("findings").focus();
    }
    if (!line || event.ctrlKey || event.altKey) return;
    const lines = [...$("beside-body").querySelectorAll(".beside-sentence")];
    const to = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (to) lines[lines.indexOf(line) + to]?.focus();
    else if (event.key.toLowerCase() === "a") copy(line.dataset.field, sentences(shown.texts[line.dataset.field]));
    else if (event.key === "Enter") {
      line.click();
      lines[lines.indexOf(line) + 1]?.focus();
    } else return;
    event.preventDefault();
  });

  const mode = (on) => () => {
    different = on;
    if (shown) draw();
  };
  page.act("beside", toggle);
  page.act("beside-text", mode(false));
  page.act("beside-diff", mode(true));
  page.act("copied-next", next);
  page.act("copied-all", all);
  page.key("Alt+b", t("既往报告并排对照"), toggle);
  page.key("Alt+x", t("与既往的差异"), () => {
    if (shown) mode(!different)();
    else {
      different = true;
      toggle();
    }
  });
  page.key("Alt+c", t("确认复制的一句,到下一句"), next);
  page.key("Alt+a", t("确认全部复制的文字"), all);
}
