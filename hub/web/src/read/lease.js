// Who holds the exam: claiming it, the heartbeat, losing it, giving it back, taking it over.
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { ask, toast } from "../ui.js";
import { $ } from "./page.js";

const HEARTBEAT = 30000;
const HELD = ["edit", "review"];

export function attach(page) {
  let active = Date.now();

  /** Somebody works on this page: with keys, the mouse, or in the images. */
  page.touch = () => {
    active = Date.now();
  };
  /** Whether the exam is held by this window. */
  page.holds = () => page.lease !== "" && !page.lost && HELD.includes(page.exam.mode);

  page.claim = () => {
    const about = page.exam.exam_id;
    page.claiming = (async () => {
      try {
        const answer = await post(`/api/exams/${about}/claim`);
        if (about === page.exam.exam_id) page.lease = answer.lease;
        return true;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        toast(error.message, "warn");
        return false;
      } finally {
        page.claiming = null;
      }
    })();
    return page.claiming;
  };

  /** The exam is somebody else's now; what stands in the form stays to be read. */
  page.lose = (why) => {
    if (page.lost || page.exam.mode === "view") return;
    page.lost = true;
    const box = $("lease-lost");
    if (box) {
      box.hidden = false;
      box.querySelector("[data-lost-why]").textContent = why;
    }
    page.emit("lost");
  };

  async function beat() {
    if (!page.holds()) return;
    const recent = Date.now() - active < 120000;
    const [about, token] = [page.exam.exam_id, page.lease];
    try {
      const answer = await post(`/api/exams/${about}/lease`, { lease: token, active: recent });
      if (!answer.held && about === page.exam.exam_id && token === page.lease) {
        // The text that was not saved yet goes beside the draft, where nobody overwrites it.
        if (page.dirty) await page.sendDraft().catch(() => false);
        page.lose(answer.holder ? t("{name}正在处理这项检查", { name: answer.holder }) : t("超过时限没有操作,检查已放回队列"));
      }
    } catch (error) {
      if (error.status === 401) toast(t("登录已失效,请重新登录;您的文字保存在本机"), "bad");
    }
  }

  // The lease is looked after whether or not the tab is in front; the hub extends it, nobody else.
  setInterval(beat, HEARTBEAT);
  for (const kind of ["keydown", "pointerdown"]) document.addEventListener(kind, page.touch, { passive: true });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") beat();
  });
  document.addEventListener("hub:change", ({ detail }) => {
    if (detail.ref !== page.exam.exam_id || page.busy) return;
    if (detail.topic === "exam" && HELD.includes(page.exam.mode)) beat();
    // One's own claim is told like any other change, mostly before it is answered: its lease stays.
    // Until its answer is shown, nothing else is.
    if (page.claiming || page.opening) return;
    if (page.exam.mode === "view" && ["exam", "report"].includes(detail.topic) && !document.querySelector("dialog[open]")) page.reload({ keepLease: true });
  });

  page.act("reopen", () => page.once(() => page.reload({ claim: true })));
  page.act("release", () =>
    page.once(async () => {
      if (page.dirty && !(await page.settled())) return;
      await post(`/api/exams/${page.exam.exam_id}/release`, { lease: page.lease });
      page.toQueue();
    }),
  );
  page.act("take-over", async () => {
    const why = await ask(t("收回后,对方会立即看到提示,文字不会丢失。"), { title: t("收回检查"), input: t("原因"), yes: t("收回"), danger: true });
    if (!why?.trim()) return;
    await page.once(async () => {
      const answer = await post(`/api/exams/${page.exam.exam_id}/take-over`, { reason: why });
      page.lease = answer.next?.lease ?? "";
      await page.reload({ keepLease: true });
    });
  });
}
