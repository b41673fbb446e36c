// The reading queue: rows are chosen by key, opening one takes its lease.
import { ApiError, post } from "../api.js";
import { startBalance } from "../balance.js";
import { data, t } from "../i18n.js";
import { ask, onKey, tick, toast } from "../ui.js";

const { filters = {} } = data("queue-data");
const queue = document.getElementById("queue");
let current = sessionStorage.getItem("queue-current") ?? "";

// The reading page's "next" follows the filters of the queue it was opened from.
sessionStorage.setItem("queue-filters", JSON.stringify(filters));
sessionStorage.setItem("queue-address", location.pathname + location.search);

const rows = () => [...queue.querySelectorAll("tr[data-exam]")];

function choose(row, { scroll = true } = {}) {
  for (const other of rows()) other.classList.toggle("is-current", other === row);
  if (!row) return;
  current = row.dataset.exam;
  sessionStorage.setItem("queue-current", current);
  if (scroll) row.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const all = rows();
  if (all.length === 0) return;
  const at = all.findIndex((row) => row.dataset.exam === current);
  choose(all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))]);
}

let opening = false;

async function open(row) {
  if (!row || opening) return;
  if (!("claim" in row.dataset)) {
    location.assign(row.dataset.open);
    return;
  }
  opening = true;
  try {
    await post(`/api/exams/${row.dataset.exam}/claim`);
    location.assign(row.dataset.open);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message, "warn");
    const only = await ask(t("要以只读方式打开吗?"), { title: error.message, yes: t("只读打开") });
    if (only) location.assign(row.dataset.open);
  } finally {
    opening = false;
  }
}

function nextBody(extra = {}) {
  const { view, q = "", clinic = "", modality = "", priority = "", overdue } = filters;
  const review = view === "review" ? true : view === "read" ? false : null;
  return { q, clinic, modality, priority, overdue: Boolean(overdue), review, ...extra };
}

async function next() {
  if (opening) return;
  opening = true;
  try {
    const found = await post("/api/queue/next", nextBody());
    if (found.next) location.assign(`/read/${found.next.exam_id}`);
    else toast(t("没有等待您处理的检查"), "info");
  } finally {
    opening = false;
  }
}

queue.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const row = target?.closest("tr[data-exam]");
  if (!row || String(getSelection())) return;
  const link = target.closest("a");
  if (link && !("rowLink" in link.dataset)) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey) {
    if (!link) window.open(row.dataset.open, "_blank", "noopener");
    return;
  }
  event.preventDefault();
  choose(row, { scroll: false });
  open(row);
});

function settle() {
  const kept = rows().find((row) => row.dataset.exam === current);
  choose(kept ?? null, { scroll: false });
  tick(queue);
}

document.addEventListener("htmx:afterSettle", settle);
document.getElementById("take-next")?.addEventListener("click", next);

const search = document.getElementById("queue-search");
search.addEventListener("search", () => search.form.requestSubmit());
search.addEventListener("keydown", (event) => {
  if (event.key === "Escape") search.blur();
});
document.getElementById("queue-filters").addEventListener("submit", (event) => {
  // Only what was chosen goes into the address.
  event.preventDefault();
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(event.target)) if (value) query.set(name, value);
  const text = query.toString();
  location.assign(`/queue${text ? `?${text}` : ""}`);
});

onKey("j", t("下一行"), () => step(1));
onKey("k", t("上一行"), () => step(-1));
onKey("ArrowDown", t("下一行"), () => step(1));
onKey("ArrowUp", t("上一行"), () => step(-1));
onKey("Enter", t("打开所选检查"), () => open(rows().find((row) => row.dataset.exam === current) ?? rows()[0]));
onKey("n", t("取下一份检查"), next);
onKey("/", t("查找"), () => {
  search.focus();
  search.select();
});

startBalance();
settle();
