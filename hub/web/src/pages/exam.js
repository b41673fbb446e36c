// One exam: a light viewer that pages through previews, cancelling, the thread with the readers and what they ask for.
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { lightViewer } from "../pictures.js";
import { attachThread, drawPictures, putFiles } from "../thread.js";
import { ask, toast } from "../ui.js";

// Renewed by the live page while images arrive.
const pageData = () => JSON.parse(document.getElementById("exam-data").dataset.page);
const open = lightViewer(
  (id) => pageData().series.find((entry) => entry.id === id),
  (id) => `/clinic/exams/${pageData().exam}/pictures/image/${id}`,
);

document.addEventListener("click", async (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const opener = target?.closest("[data-open-series]");
  if (opener) return open(opener.dataset.openSeries);
  const cancel = target?.closest("[data-cancel]");
  if (cancel) {
    const reason = await ask(t("取消后不能恢复,需要时请重新登记。"), {
      title: t("取消检查"),
      yes: t("取消检查"),
      no: t("返回"),
      danger: true,
      input: t("原因"),
    });
    if (!reason) return undefined;
    await post(`/api/exams/${cancel.dataset.cancel}/cancel`, { reason });
    location.reload();
  }
  const wanted = target?.closest("[data-open-dialog]")?.dataset.openDialog;
  if (wanted && !document.getElementById(wanted)) {
    // Asked while the page stood open: its dialog comes with the page.
    location.hash = "answer";
    location.reload();
  }
  const retake = target?.closest("[data-retake]");
  if (retake && !retake.disabled) {
    retake.disabled = true;
    await told(async () => {
      const made = await post(`/api/exams/${retake.dataset.retake}/retake`, {});
      location.assign(`/clinic/exams/${made.exam_id}`);
    });
    retake.disabled = false;
  }
  return undefined;
});

/** Do it, and say what the hub refuses; true where it was done. */
async function told(act, form = null) {
  try {
    await act();
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const said = Object.values(error.problem?.fields ?? {})[0];
    toast(said ?? error.message, "bad");
    form?.querySelector("textarea, select, input")?.focus();
    return false;
  }
}

// --- the thread, and what the readers ask for ------------------------------------------------------------------

const talk = document.querySelector("[data-talk]");
if (talk) attachThread(talk);

/** A dialog whose form is sent by `send(form)`; of two clicks one counts. */
function answering(id, send) {
  const dialog = document.getElementById(id);
  dialog?.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("[type=submit]");
    if (button.disabled) return;
    button.disabled = true;
    if (await told(() => send(form), form)) location.reload();
    else button.disabled = false;
  });
  return dialog;
}

const attached = [];
const history = answering("history-dialog", (form) =>
  post(`/api/exams/${pageData().exam}/answer-history`, { text: form.elements.text.value, pictures: attached.map(({ id }) => id) }),
);
history?.querySelector("[data-answer-file]").addEventListener("change", async ({ target }) => {
  const files = [...target.files];
  target.value = "";
  await putFiles(pageData().exam, files, attached, history.querySelector("[data-answer-chosen]"));
});
if (history) drawPictures(history.querySelector("[data-answer-chosen]"), attached);
answering("decline-dialog", (form) =>
  post(`/api/exams/${pageData().exam}/decline-retake`, { reason: form.elements.reason.value, note: form.elements.note.value }),
);
answering("void-dialog", (form) => post(`/api/exams/${pageData().exam}/void`, { reason: form.elements.reason.value }));
// From a list of what waits: the answer is one tap away.
if (location.hash === "#answer") {
  (history ?? document.getElementById("decline-dialog"))?.showModal();
}
