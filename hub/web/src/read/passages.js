// Passages of the report: the reviewer marks what is wrong and sends it back with them; the author sees them in his text,
// goes from one to the next and ticks them off.
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { highlight } from "./highlight.js";
import { $, TEXTS } from "./page.js";

const NAMES = {
  technique: () => t("检查技术"),
  comparison: () => t("对比"),
  findings: () => t("检查所见"),
  impression: () => t("诊断意见"),
  recommendation: () => t("建议"),
};

/** Places are counted in characters, as the hub counts them, not in UTF-16 units. */
const characters = (text, end) => [...text.slice(0, end)].length;
const units = (text, end) => [...text].slice(0, end).join("").length;

/** Where `quoted` stands in `text` now, nearest to where it stood; null where it is gone. */
export function find(text, quoted, near) {
  let best = null;
  for (let at = text.indexOf(quoted); quoted && at >= 0; at = text.indexOf(quoted, at + 1)) {
    if (best === null || Math.abs(at - near) < Math.abs(best - near)) best = at;
  }
  return best === null ? null : { start: best, end: best + quoted.length };
}

export function attach(page) {
  /** Of the author: those that he got. Of the reviewer: those that he marks now. */
  let rows = [];
  let fresh = [];
  let at = -1;
  const reviews = () => Boolean(page.exam.passages?.reviews);
  const open = () => rows.filter((row) => !row.resolved_at);
  const place = (row) => find(page.text.get(row.field), row.quoted, row.near);

  page.on("panel", () => {
    rows = (page.exam.passages?.rows ?? []).map((row) => ({ ...row, near: units(page.text.get(row.field), row.start) }));
    fresh = [];
    at = -1;
    draw();
  });
  page.on("change", () => {
    // What was marked and then rewritten by the reviewer himself is no remark any more.
    const gone = fresh.filter((row) => !place(row));
    if (gone.length > 0) {
      fresh = fresh.filter((row) => !gone.includes(row));
      draw();
    } else paint();
  });

  function paint() {
    const shown = reviews() ? fresh : open();
    for (const name of TEXTS) {
      const field = $(name);
      if (field instanceof HTMLTextAreaElement) {
        highlight(
          field,
          shown.filter((row) => row.field === name).map(place).filter(Boolean),
        );
      }
    }
    for (const item of $("passages")?.querySelectorAll("[data-passage]") ?? []) {
      const row = rows.find(({ id }) => id === item.dataset.passage);
      item.classList.toggle("is-gone", Boolean(row) && !row.resolved_at && !place(row));
    }
  }

  function go(row) {
    const spot = place(row);
    const field = $(row.field);
    $("tab-report").click();
    field.focus();
    if (!spot) {
      toast(t("标出的文字已经改过,请核对后标记完成"), "info", 4);
      return;
    }
    field.setSelectionRange(spot.start, spot.end);
    // The line of the selection in sight: a text area scrolls to its cursor only when something is typed.
    const lines = page.text.get(row.field).slice(0, spot.start).split("\n").length - 1;
    const height = Number.parseFloat(getComputedStyle(field).lineHeight) || 20;
    if (field instanceof HTMLTextAreaElement) field.scrollTop = Math.max(0, lines * height - field.clientHeight / 3);
  }

  async function resolve(row) {
    try {
      Object.assign(row, await post(`/api/reports/passages/${row.id}/resolve`, {}));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "bad");
    }
    draw();
  }

  function button(words, act, ...classes) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = ["btn", "btn--sm", ...classes].join(" ");
    made.textContent = words;
    made.addEventListener("click", act);
    return made;
  }

  function quote(row) {
    const line = document.createElement("button");
    line.type = "button";
    line.className = "linklike passages-quote";
    const where = document.createElement("span");
    where.className = "muted small";
    where.textContent = `${NAMES[row.field]()} `;
    const words = document.createElement("mark");
    words.textContent = row.quoted;
    line.append(where, words);
    line.addEventListener("click", () => go(row));
    return line;
  }

  function received(row) {
    const item = document.createElement("li");
    item.dataset.passage = row.id;
    item.classList.toggle("is-done", Boolean(row.resolved_at));
    item.append(quote(row));
    if (row.comment) {
      const said = document.createElement("div");
      said.className = "passages-said";
      said.textContent = row.comment;
      item.append(said);
    }
    const foot = document.createElement("div");
    foot.className = "row small muted";
    const who = document.createElement("span");
    who.textContent = row.resolved_at ? t("{name} 已处理", { name: row.resolved_by }) : row.person;
    foot.append(who);
    if (!row.resolved_at && !reviews()) foot.append(button(t("已改好"), () => resolve(row)));
    item.append(foot);
    return item;
  }

  function given(row) {
    const item = document.createElement("li");
    item.append(quote(row));
    const line = document.createElement("div");
    line.className = "row";
    const said = document.createElement("input");
    said.className = "input";
    said.maxLength = 400;
    said.value = row.comment;
    said.placeholder = t("哪里不对?");
    said.setAttribute("aria-label", t("对“{text}”的意见", { text: row.quoted }));
    said.addEventListener("input", () => {
      row.comment = said.value;
    });
    line.append(
      said,
      button("×", () => {
        fresh = fresh.filter((other) => other !== row);
        draw();
      }),
    );
    line.lastChild.setAttribute("aria-label", t("去掉"));
    item.append(line);
    return item;
  }

  function draw() {
    const box = $("passages");
    if (box) {
      const left = open().length;
      box.hidden = rows.length + fresh.length === 0;
      box.querySelector("[data-passages-title]").textContent = reviews()
        ? t("标出 {n} 处,驳回时一并发给作者", { n: fresh.length })
        : left > 0
          ? t("审核标出 {n} 处,还有 {left} 处", { n: rows.length, left })
          : t("审核标出的 {n} 处都已处理", { n: rows.length });
      box.querySelector("[data-passages-list]").replaceChildren(...fresh.map(given), ...rows.map(received));
    }
    paint();
  }

  /** Mark what is selected in the form. */
  function mark() {
    const field = document.activeElement;
    const name = field?.name;
    const [start, end] = TEXTS.includes(name) ? [field.selectionStart, field.selectionEnd] : [0, 0];
    const quoted = end > start ? field.value.slice(start, end) : "";
    if (!quoted.trim()) {
      toast(t("先在报告文字中选中要标出的部分"), "info", 4);
      return;
    }
    if (quoted.length > page.exam.passages.longest || fresh.length >= page.exam.passages.most) {
      toast(t("标出的文字太长或太多"), "warn");
      return;
    }
    fresh.push({ field: name, quoted, near: start, comment: "" });
    draw();
    const inputs = $("passages").querySelectorAll("[data-passages-list] input");
    inputs[fresh.length - 1]?.focus();
  }
  // A click takes the focus from the text: what was selected is remembered before.
  page.panel.addEventListener("pointerdown", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-act=mark]")) event.preventDefault();
  });
  page.act("mark", mark);
  page.act("passage-next", () => {
    const left = open();
    if (left.length === 0) return;
    at = (at + 1) % left.length;
    go(left[at]);
  });

  // --- sending back ---

  const dialog = $("reject-dialog");
  const form = dialog.querySelector("form");
  page.act("reject", () => {
    form.reset();
    dialog.querySelector("[data-reject-list]").replaceChildren(...fresh.map(given));
    form.elements.note.required = fresh.length === 0;
    dialog.showModal();
    form.elements.note.focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    page.once(async () => {
      if (page.dirty && !(await page.settled())) return;
      const passages = fresh
        .map((row) => ({ row, spot: place(row), text: page.text.get(row.field) }))
        .filter(({ spot }) => spot)
        .map(({ row, spot, text }) => ({
          field: row.field,
          start: characters(text, spot.start),
          end: characters(text, spot.end),
          comment: row.comment,
        }));
      try {
        await post(`/api/exams/${page.exam.exam_id}/reject`, {
          lease: page.lease,
          note: form.elements.note.value,
          passages,
          revision: page.revision,
        });
      } finally {
        dialog.close();
      }
      page.forget();
      toast(t("已驳回给书写医师"), "ok", 4);
      await page.after();
    });
  });
}
