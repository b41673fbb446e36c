// Nothing typed is lost: saved to the hub a moment after the last key, and kept in this browser until the hub has it.
import { ApiError, api, csrfToken, get } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { difference, marked } from "./difference.js";
import { $, TEXTS } from "./page.js";

const SAVE_AFTER = 1200;

/** The words of a draft, to be read. */
export const readable = (body) =>
  TEXTS.map((name) => body[name])
    .filter(Boolean)
    .join("\n\n");

export function attach(page) {
  let saving = null;
  let timer = 0;
  let retry = 2000;

  // Each window keeps its own copy: two that show one exam must not overwrite each other's.
  const mine = Math.random().toString(36).slice(2, 10);
  const prefix = () => `hub-draft:${page.exam.person}:`;
  const key = () => `${prefix()}${page.exam.exam_id}:${mine}`;

  function state(text, bad = false) {
    const element = $("save-state");
    if (!element) return;
    element.textContent = text;
    element.title = text;
    element.classList.toggle("is-bad", bad);
  }

  function remember() {
    try {
      const kept = { revision: page.revision, version: page.version?.version_id ?? null, at: Date.now(), body: page.collect() };
      localStorage.setItem(key(), JSON.stringify(kept));
    } catch {
      // Full or forbidden: the server's copy must do.
    }
  }

  /** The hub has it all: this browser's copy goes. */
  page.forget = () => {
    page.dirty = false;
    localStorage.removeItem(key());
  };

  page.on("change", () => {
    page.dirty = true;
    remember();
    if (page.lost) return;
    state(t("正在输入…"));
    clearTimeout(timer);
    timer = setTimeout(page.save, SAVE_AFTER);
  });

  /** Save what stands in the form; calls that come meanwhile wait for the one under way and then save again. */
  page.save = async () => {
    clearTimeout(timer);
    // Without the lease the words would be refused as another reader's.
    await page.claiming;
    if (saving) {
      await saving;
      if (!page.dirty) return true;
    }
    if (!page.writes()) return false;
    saving = page.sendDraft();
    try {
      return await saving;
    } finally {
      saving = null;
    }
  };

  page.sendDraft = async () => {
    const body = page.collect();
    const about = page.exam.exam_id;
    state(t("正在保存…"));
    try {
      const { lease, revision } = page;
      const answer = await api(`/api/exams/${about}/report`, { method: "PUT", json: { lease, revision, ...body } });
      if (about !== page.exam.exam_id) return true;
      page.take(answer);
      page.dirty = !page.same(body, page.collect());
      retry = 2000;
      if (page.dirty) timer = setTimeout(page.save, SAVE_AFTER);
      else page.forget();
      state(t("已保存 {time}", { time: new Date().toLocaleTimeString([], { hour12: false }) }));
      page.emit("saved", answer);
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // The page shows another exam by now: what is said of the former one's text is nothing to this one's.
      if (about !== page.exam.exam_id) return true;
      if (error.code === "revision-conflict") await page.conflict(error);
      else if (error.code === "lease-lost" || error.status === 404) page.lose(error.message);
      else if (error.status === 0 || error.status >= 500 || error.status === 429) {
        state(t("没有保存,正在重试;文字保存在本机"), true);
        timer = setTimeout(page.save, retry);
        retry = Math.min(retry * 2, 30000);
      } else {
        state(error.message, true);
        toast(error.message, "bad");
      }
      return false;
    }
  };

  /** Whether the hub has what stands in the form; saves it where it has not. */
  page.settled = async () => {
    if (page.dirty || saving) {
      const ok = await page.save();
      if (!ok || page.dirty) return false;
    }
    if (!page.version) {
      page.changed();
      return page.save();
    }
    return true;
  };

  /** Both texts with what is different, and the choice between them: "mine" or "theirs". */
  function choose(why, ours, theirs, name) {
    return new Promise((resolve) => {
      const dialog = $("conflict-dialog");
      const parts = difference(readable(theirs), readable(ours));
      dialog.querySelector("[data-conflict-why]").textContent = why;
      dialog.querySelector("[data-conflict-name]").textContent = name;
      dialog.querySelector("[data-conflict=mine]").replaceChildren(...marked(parts.filter(([kind]) => kind !== "-")));
      dialog.querySelector("[data-conflict=theirs]").replaceChildren(...marked(parts.filter(([kind]) => kind !== "+")));
      const stay = (event) => event.preventDefault();
      const done = (event) => {
        const chosen = event.target.closest("[data-keep]")?.dataset.keep;
        if (!chosen) return;
        dialog.removeEventListener("click", done);
        dialog.removeEventListener("cancel", stay);
        dialog.close();
        resolve(chosen);
      };
      dialog.addEventListener("click", done);
      dialog.addEventListener("cancel", stay);
      dialog.showModal();
    });
  }

  page.conflict = async (error) => {
    const theirs = error.problem.current;
    const chosen = await choose(error.message, page.collect(), theirs, t("您的文字"));
    page.revision = error.problem.revision;
    if (chosen === "mine") {
      page.changed();
      return;
    }
    page.fill(theirs);
    page.emit("adopt", theirs);
    page.forget();
    state(t("已采用服务器上的文字"));
    refreshVersion();
  };

  async function refreshVersion() {
    if (!page.version) return;
    page.take(await get(`/api/reports/${page.version.version_id}`));
    page.emit("adopt", page.version);
  }

  page.on("lost", () => {
    clearTimeout(timer);
    if (page.dirty) remember();
    for (const field of $("report-form")?.elements ?? []) if ("readOnly" in field) field.readOnly = true;
    state(t("文字已另存,可从“历次文字”取回"), true);
  });

  page.on("panel", () => {
    clearTimeout(timer);
    const left = copies();
    const here = left.filter((one) => one.exam === page.exam.exam_id);
    if (page.exam.mode === "view") {
      here.forEach(park);
    } else {
      state(page.version ? t("已打开草稿") : "");
      restore(here);
    }
    remind(left.filter((one) => one.exam !== page.exam.exam_id));
  });

  /** What this browser holds of the reader's texts, newest first: [{key, exam, at, revision, version, body}]. */
  function copies() {
    const found = [];
    for (let index = 0; index < localStorage.length; index += 1) {
      const name = localStorage.key(index);
      if (!name.startsWith(prefix())) continue;
      try {
        found.push({ ...JSON.parse(localStorage.getItem(name)), key: name, exam: name.slice(prefix().length).split(":")[0] });
      } catch {
        localStorage.removeItem(name);
      }
    }
    return found.sort((one, two) => two.at - one.at);
  }

  /** Give a text that is not taken over to the hub, which keeps it beside the draft; then this browser's copy may go. */
  async function park(copy) {
    try {
      await api(`/api/exams/${copy.exam}/report`, { method: "PUT", json: { ...copy.body, lease: page.lease, revision: -1 } });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 409) return;
    }
    localStorage.removeItem(copy.key);
  }

  /** Words that this browser kept because the hub was out of reach, the window was closed, or the lease was lost. */
  async function restore(left) {
    const about = page.exam.exam_id;
    for (const kept of left) {
      if (page.same(page.collect(), kept.body, { local: true })) {
        localStorage.removeItem(kept.key);
        continue;
      }
      if (kept.revision === page.revision && kept.version === (page.version?.version_id ?? null) && !page.dirty) {
        localStorage.removeItem(kept.key);
        page.fill(kept.body);
        page.changed();
        toast(t("已恢复本机保存的文字"), "info");
        continue;
      }
      const time = new Date(kept.at).toLocaleTimeString([], { hour12: false });
      const chosen = await choose(t("本机保存着 {time} 的另一份文字。未采用的一份可从“历次文字”取回。", { time }), kept.body, page.collect(), t("本机的文字"));
      if (about !== page.exam.exam_id) return;
      const other = chosen === "mine" ? { ...kept, body: page.collect() } : kept;
      if (chosen === "mine") page.fill(kept.body);
      await page.claiming;
      await park(other);
      if (chosen === "mine") page.changed();
    }
  }

  let reminded = false;

  /** Texts of other exams that never reached the hub. */
  function remind(left) {
    if (reminded || left.length === 0) return;
    reminded = true;
    const box = toast(t("本机还有 {n} 份报告的文字没有上传:", { n: new Set(left.map(({ exam }) => exam)).size }), "warn", 0);
    for (const exam of new Set(left.map((one) => one.exam))) {
      const link = document.createElement("a");
      link.href = `/read/${exam}`;
      link.textContent = ` ${new Date(left.find((one) => one.exam === exam).at).toLocaleString([], { hour12: false })}`;
      box.firstChild.append(link);
    }
  }

  window.addEventListener("online", () => {
    if (page.dirty && page.writes()) page.save();
  });

  // A closing page sends its last words; what does not arrive lies in this browser.
  window.addEventListener("pagehide", () => {
    if (!page.dirty || !page.writes()) return;
    remember();
    const { lease, revision } = page;
    fetch(`/api/exams/${page.exam.exam_id}/report`, {
      method: "PUT",
      keepalive: true,
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrfToken() },
      body: JSON.stringify({ lease, revision, ...page.collect() }),
    }).catch(() => {});
  });

  page.key("Ctrl+s", t("立即保存"), () => {
    if (page.writes()) {
      page.dirty = true;
      page.save();
    }
  });
}
