// Reader and clinic: the thread, questions about the history, return for retake with marks on the image, void exams.
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { attachThread, putPicture } from "../thread.js";
import { ask, toast } from "../ui.js";
import { marking } from "./marking.js";
import { $ } from "./page.js";

const MARKS = 4;

export function attach(page) {
  let talk = null;

  function count(number) {
    const badge = page.panel.querySelector("[data-talk-count]");
    if (!badge) return;
    badge.textContent = String(number);
    badge.hidden = number === 0;
  }

  page.on("panel", () => {
    talk?.stop();
    const root = page.panel.querySelector("[data-talk]");
    talk = root ? attachThread(root, { capture: shoot, onUnread: count }) : null;
    if (location.hash === "#thread") $("tab-talk")?.click();
  });
  page.panel.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("#tab-talk")) requestAnimationFrame(() => talk?.seen());
  });
  page.act("talk", () => $("tab-talk").click());
  page.key("Alt+m", t("往来,或标出文字"), () => {
    if (page.panel.querySelector("[data-act=mark]")) page.do("mark");
    else if (page.panel.querySelector("#passages:not([hidden]) [data-act=passage-next]")) page.do("passage-next");
    else $("tab-talk")?.click();
  });

  /** What the active viewport shows, if it is an image of this exam; else says why not. */
  async function shoot() {
    let shot = null;
    try {
      shot = await page.viewer.capture();
    } catch {
      toast(t("没有截取到图像,请先点选一个视窗"), "warn");
      return null;
    }
    if (shot.study && !(page.exam.studies ?? page.exam.images?.studies ?? []).includes(shot.study)) {
      toast(t("当前视窗显示的是另一次检查的影像"), "warn");
      return null;
    }
    return shot;
  }

  /** Open a dialog for the present exam; `send(form)` says what is posted where, once the draft is safe. */
  function dialog(id, prepare, send) {
    const box = $(id);
    const form = box.querySelector("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      page.once(async () => {
        if (page.dirty && !(await page.settled())) return;
        let request = null;
        try {
          request = await send(form);
          if (!request) return;
          await post(`/api/exams/${page.exam.exam_id}/${request.path}`, { lease: page.lease, ...request.body });
        } catch (error) {
          if (!(error instanceof ApiError) || error.code === "lease-lost") throw error;
          toast(Object.values(error.problem?.fields ?? {})[0] ?? error.message, "bad");
          return;
        }
        box.close();
        page.forget();
        toast(t("已发送给卫生院"), "ok", 4);
        await page.after();
      });
    });
    return () => {
      form.reset();
      box.querySelector("[data-exchange-who]").textContent = `${page.exam.patient} · ${page.exam.exam}`;
      prepare(form);
      box.showModal();
    };
  }

  const openHistory = dialog(
    "history-dialog",
    (form) => {
      form.querySelector("[data-exchange-questions]").replaceChildren(
        ...page.exam.exchange.questions.map((question) => {
          const button = document.createElement("button");
          button.type = "button";
          button.className = "phrase";
          button.textContent = question;
          button.addEventListener("click", () => {
            const text = form.elements.reason;
            text.value = text.value ? `${text.value}\n${question}` : question;
            text.focus();
          });
          return button;
        }),
      );
    },
    (form) => (form.elements.reason.value.trim() ? { path: "request-history", body: { reason: form.elements.reason.value } } : null),
  );

  const marks = marking($("retake-dialog").querySelector("[data-marks]"), MARKS);
  const openRetake = dialog(
    "retake-dialog",
    (form) => {
      marks.clear();
      form.querySelector("[data-exchange-reasons]").replaceChildren(
        ...page.exam.exchange.reasons.map(({ code, name }) => {
          const label = document.createElement("label");
          label.className = "check";
          const box = document.createElement("input");
          box.type = "checkbox";
          box.name = "reasons";
          box.value = code;
          const words = document.createElement("span");
          words.textContent = name;
          label.append(box, " ", words);
          return label;
        }),
      );
    },
    async (form) => {
      const reasons = [...form.querySelectorAll("[name=reasons]:checked")].map(({ value }) => value);
      const reason = form.elements.reason.value.trim();
      if (!reason && (reasons.length === 0 || (reasons.length === 1 && reasons[0] === "other"))) {
        toast(t("请选择或写明退回的原因"), "warn");
        return null;
      }
      const pictures = [];
      for (const { blob, shot } of await marks.blobs()) {
        const { id } = await putPicture(page.exam.exam_id, blob, { sop: shot.sop, frame: shot.frame, name: "mark.png" });
        pictures.push(id);
      }
      return { path: "request-retake", body: { reasons, reason, pictures } };
    },
  );

  const retake = $("retake-dialog");
  async function capture() {
    const shot = await shoot();
    if (!shot) return;
    if (!(await marks.add(shot))) toast(t("最多标出 {n} 张图像", { n: MARKS }), "warn");
  }
  retake.querySelector("[data-mark-capture]").addEventListener("click", capture);
  retake.addEventListener("keydown", (event) => {
    if (!event.altKey || event.key.toLowerCase() !== "k") return;
    event.preventDefault();
    event.stopPropagation();
    capture();
  });
  retake.querySelector("[data-mark-undo]").addEventListener("click", () => marks.undo());
  for (const button of retake.querySelectorAll("[data-mark-tool]")) {
    button.addEventListener("click", () => {
      marks.tool = button.dataset.markTool;
      for (const other of retake.querySelectorAll("[data-mark-tool]")) {
        other.classList.toggle("is-on", other === button);
        other.setAttribute("aria-pressed", String(other === button));
      }
    });
  }

  page.act("history", openHistory);
  page.act("retake", () => {
    openRetake();
    // The image on the screen is the one that is wrong, nearly always.
    if (page.viewer) capture();
  });

  page.act("void", async () => {
    const words = t("作废后不能恢复。影像、草稿和已签发的报告都保留并标明“已作废”,卫生院会立即收到通知。");
    const reason = await ask(
      `${page.exam.patient} · ${page.exam.accession}\n\n${words}`,
      { title: t("作废检查"), yes: t("作废"), input: t("原因(卫生院会看到)"), danger: true },
    );
    if (!reason?.trim()) return;
    await page.once(async () => {
      await post(`/api/exams/${page.exam.exam_id}/void`, { reason });
      toast(t("检查已作废"), "ok", 4);
      await page.reload();
    });
  });
}
