// Small pieces of behaviour that pages share: toasts, dialogs, clocks, keys.
import { duration, t } from "./i18n.js";

/** Show a short message. `tone`: info, ok, warn, bad (stays until closed). */
export function toast(text, tone = "info", seconds = tone === "bad" ? 0 : 6) {
  const box = document.createElement("div");
  box.className = `toast toast--${tone}`;
  box.setAttribute("role", tone === "bad" ? "alert" : "status");
  const words = document.createElement("div");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "linklike";
  close.textContent = "✕";
  close.setAttribute("aria-label", t("关闭"));
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  document.getElementById("toasts")?.append(box);
  if (seconds) setTimeout(() => box.remove(), seconds * 1000);
  return box;
}

/** Ask in a dialog. Resolves to true or false; with `input` (a label) to the text (empty only where `optional`) or null. */
export function ask(question, { title = t("请确认"), yes = t("确定"), no = t("取消"), danger = false, input = "", optional = false } = {}) {
  return new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    dialog.className = "dialog";
    const form = document.createElement("form");
    form.method = "dialog";
    const head = document.createElement("div");
    head.className = "dialog-head";
    head.textContent = title;
    const body = document.createElement("div");
    body.className = "dialog-body stack stack--sm";
    const words = document.createElement("div");
    words.className = "pre-line";
    words.textContent = question;
    body.append(words);
    let field = null;
    if (input) {
      const label = document.createElement("label");
      label.className = "field";
      const caption = document.createElement("span");
      caption.className = "field-label";
      caption.textContent = input;
      field = document.createElement("textarea");
      field.className = "textarea";
      field.required = !optional;
      label.append(caption, field);
      body.append(label);
    }
    const foot = document.createElement("div");
    foot.className = "dialog-foot";
    const cancel = document.createElement("button");
    cancel.type = "button";
    cancel.className = "btn";
    cancel.textContent = no;
    cancel.addEventListener("click", () => dialog.close("no"));
    const ok = document.createElement("button");
    ok.className = `btn ${danger ? "btn--danger" : "btn--primary"}`;
    ok.value = "yes";
    ok.textContent = yes;
    foot.append(cancel, ok);
    form.append(head, body, foot);
    dialog.append(form);
    dialog.addEventListener("close", () => {
      const agreed = dialog.returnValue === "yes";
      dialog.remove();
      if (field) resolve(agreed ? field.value : null);
      else resolve(agreed);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

const AMBER_FROM = 0.7;

/** Bring every `<time data-since data-limit data-done>` up to date. */
export function tick(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[data-since]")) {
    const since = Date.parse(element.dataset.since);
    if (Number.isNaN(since)) continue;
    const limit = element.dataset.limit ? Date.parse(element.dataset.limit) : Number.NaN;
    const done = element.dataset.done ? Date.parse(element.dataset.done) : Number.NaN;
    const at = Number.isNaN(done) ? now : done;
    const { paused } = element.dataset;
    const words = `${duration((at - since) / 1000)}${paused ? ` \u00b7 ${paused}` : ""}`;
    if (element.textContent !== words) element.textContent = words;
    element.classList.remove("clock--green", "clock--amber", "clock--red");
    element.classList.toggle("clock--paused", Boolean(paused));
    if (Number.isNaN(limit) || paused) continue;
    const share = (at - since) / Math.max(1, limit - since);
    const tone = at >= limit ? "red" : share >= AMBER_FROM ? "amber" : "green";
    element.classList.add(`clock--${tone}`);
  }
}

const keys = [];

/**
 * Give the page a key. `key` is as in KeyboardEvent.key, with "Ctrl+", "Alt+" or "Shift+" before it; it does not
 * fire while somebody types, unless it has Ctrl or Alt. `text` is shown in the list that "?" opens.
 */
export function onKey(key, text, handler) {
  keys.push({ key, text, handler });
}

function keyName(event) {
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.shiftKey && event.key.length > 1 ? "Shift+" : ""}${name}`;
}

export function typing(target) {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
}

export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.defaultPrevented) return;
    const name = keyName(event);
    if (typing(event.target) && !/^(Ctrl|Alt)\+|^Escape$|^F\d/.test(name)) return;
    const found = keys.findLast((entry) => entry.key.toLowerCase() === name.toLowerCase());
    if (!found) return;
    event.preventDefault();
    found.handler(event);
  });
  onKey("?", t("显示键盘快捷键"), showKeys);
}

export function showKeys() {
  const dialog = document.getElementById("keys-dialog");
  const list = dialog?.querySelector("[data-keys-list]");
  if (!list) return;
  list.replaceChildren(
    ...keys.flatMap(({ key, text }) => {
      const term = document.createElement("dt");
      const cap = document.createElement("span");
      cap.className = "kbd";
      cap.textContent = key;
      term.append(cap);
      const words = document.createElement("dd");
      words.textContent = text;
      return [term, words];
    }),
  );
  dialog.showModal();
}

/** Make a `.split` resizable by its `.split-handle`; the width is remembered under `name`. */
export function startSplit(split, name = "hub-split") {
  const handle = split.querySelector(".split-handle");
  if (!handle) return;
  const apply = (width) => split.style.setProperty("--split-panel", `${Math.round(width)}px`);
  const bounded = (width) => Math.min(Math.max(width, 340), Math.max(340, split.clientWidth - 360));
  const saved = Number(localStorage.getItem(name));
  if (saved) apply(bounded(saved));
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    split.classList.add("is-dragging");
    const move = (next) => apply(bounded(split.getBoundingClientRect().right - next.clientX));
    const stop = () => {
      handle.removeEventListener("pointermove", move);
      split.classList.remove("is-dragging");
      localStorage.setItem(name, String(split.querySelector(".split-panel").offsetWidth));
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", stop, { once: true });
    handle.addEventListener("pointercancel", stop, { once: true });
  });
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 24, ArrowRight: -24 }[event.key];
    if (!step) return;
    event.preventDefault();
    const width = bounded(split.querySelector(".split-panel").offsetWidth + step);
    apply(width);
    localStorage.setItem(name, String(width));
  });
}
