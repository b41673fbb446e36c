// The thread between reader and clinic: fetching its lines, sending, pictures, receipts. Used by the clinic's exam page and
// the reading page; templates/conversation/_thread.html is what it brings to life.
import { api, ApiError, get, post } from "./api.js";
import { config, t } from "./i18n.js";
import { toast } from "./ui.js";

const PICTURES = 6;
const WAIT = 300;

/** Put a picture into the exam's thread; gives `{id, url}` for the message that will carry it. */
export function putPicture(exam, blob, { caption = "", sop = "", frame = null, name = "picture.jpg" } = {}) {
  const body = new FormData();
  body.set("file", blob, name);
  body.set("caption", caption);
  body.set("sop_uid", sop ?? "");
  if (Number.isInteger(frame) && frame > 0) body.set("frame", String(frame));
  return api(`/api/exams/${exam}/thread/pictures`, { method: "POST", body });
}

/** Small pictures with a button that takes each off again. `list`: `[{id, url}]`, changed in place. */
export function drawPictures(box, list) {
  box.hidden = list.length === 0;
  box.replaceChildren(
    ...list.map((picture) => {
      const item = document.createElement("span");
      item.className = "talk-thumb";
      const image = document.createElement("img");
      image.src = picture.url;
      image.alt = picture.caption || t("图片");
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", t("去掉这张图片"));
      remove.addEventListener("click", () => {
        list.splice(list.indexOf(picture), 1);
        drawPictures(box, list);
      });
      item.append(image, remove);
      return item;
    }),
  );
}

/** Send chosen files as pictures, one after another, into `list`. */
export async function putFiles(exam, files, list, box) {
  for (const file of files) {
    if (list.length >= PICTURES) {
      toast(t("一次最多 {n} 张图片", { n: PICTURES }), "warn");
      return;
    }
    try {
      list.push(await putPicture(exam, file, { name: file.name }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "bad");
    }
    drawPictures(box, list);
  }
}

const key = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

/**
 * Bring a thread to life.
 * @param {HTMLElement} root the element with data-talk
 * @param {object} options `capture()`: gives `{blob, sop, frame}` of what the viewer shows; `onUnread(number)`
 * @returns {{refresh: Function, stop: Function}}
 */
export function attachThread(root, { capture = null, onUnread = () => {} } = {}) {
  const exam = root.dataset.talk;
  const scroll = root.querySelector("[data-talk-scroll]");
  const form = root.querySelector("[data-talk-form]");
  const chosen = root.querySelector("[data-talk-chosen]");
  // A workstation is shared: nobody finds what another one typed.
  const draft = `hub-talk-${config.user ?? ""}-${exam}`;
  const pictures = [];
  let mark = "";
  let timer = 0;
  let stopped = false;
  const lines = () => root.querySelector("[data-talk-lines]");
  const unread = () => Number(lines()?.dataset.unread ?? 0);

  function down() {
    scroll.scrollTop = scroll.scrollHeight;
  }

  async function refresh() {
    const html = await get(`/clinic/exams/${exam}/thread`, { headers: { Accept: "text/html" } }).catch(() => null);
    if (stopped || html === null) return;
    const low = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
    scroll.innerHTML = html;
    if (low) down();
    onUnread(unread());
    await seen();
  }

  /** What stands on an open page before somebody's eyes has been read. */
  async function seen() {
    if (stopped || !unread() || document.visibilityState !== "visible" || root.offsetParent === null) return;
    lines().dataset.unread = "0";
    onUnread(0);
    await post(`/api/exams/${exam}/thread/read`, {}).catch(() => null);
  }

  function changed({ detail }) {
    if (detail.topic !== "*" && (detail.ref !== exam || !["thread", "exam"].includes(detail.topic))) return;
    clearTimeout(timer);
    timer = setTimeout(refresh, WAIT);
  }
  document.addEventListener("hub:change", changed);
  document.addEventListener("visibilitychange", seen);

  if (form) {
    const text = form.elements.text;
    const hint = text.placeholder;
    text.value = sessionStorage.getItem(draft) ?? "";
    text.addEventListener("input", () => sessionStorage.setItem(draft, text.value));
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      event.stopPropagation();
      form.requestSubmit();
    });
    form.querySelector("[data-talk-note]")?.addEventListener("change", ({ target }) => {
      root.classList.toggle("is-note", target.checked);
      text.placeholder = target.checked ? text.dataset.placeholderNote : hint;
    });
    form.querySelector("[data-talk-file]")?.addEventListener("change", async ({ target }) => {
      const files = [...target.files];
      target.value = "";
      await putFiles(exam, files, pictures, chosen);
    });
    const taking = form.querySelector("[data-talk-capture]");
    if (taking && capture) {
      taking.hidden = false;
      taking.addEventListener("click", async () => {
        const shot = await capture();
        if (!shot) return;
        pictures.push(await putPicture(exam, shot.blob, { sop: shot.sop, frame: shot.frame }));
        drawPictures(chosen, pictures);
      });
    }
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("[type=submit]");
      if (button.disabled || !(text.value.trim() || pictures.length)) return;
      button.disabled = true;
      // The same message sent again after a lost answer is said once.
      mark ||= key();
      const note = Boolean(form.elements.note?.checked);
      try {
        await post(`/api/exams/${exam}/thread`, { text: text.value, note, pictures: pictures.map(({ id }) => id), key: mark });
        mark = "";
        text.value = "";
        sessionStorage.removeItem(draft);
        pictures.length = 0;
        drawPictures(chosen, pictures);
        await refresh();
        down();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        toast(error.message, "bad");
      } finally {
        button.disabled = false;
        text.focus();
      }
    });
  }
  down();
  onUnread(unread());
  seen();
  return {
    refresh,
    seen: () => {
      down();
      return seen();
    },
    stop() {
      stopped = true;
      document.removeEventListener("hub:change", changed);
      document.removeEventListener("visibilitychange", seen);
    },
  };
}
