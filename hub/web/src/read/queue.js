// The way from one exam to the next.
import { post } from "../api.js";
import { t } from "../i18n.js";
import { ask, toast } from "../ui.js";

export function attach(page) {
  page.toQueue = () => location.assign(sessionStorage.getItem("queue-address") ?? "/queue");

  /** What the reader's queue is filtered by, for asking what comes next. */
  page.nextBody = (extra = {}) => {
    let filters = {};
    try {
      filters = JSON.parse(sessionStorage.getItem("queue-filters") ?? "{}");
    } catch {
      filters = {};
    }
    const { view, q = "", clinic = "", modality = "", priority = "", overdue } = filters;
    const review = view === "review" ? true : view === "read" ? false : null;
    return { q, clinic, modality, priority, overdue: Boolean(overdue), review, ...extra };
  };

  /** After a report has left: the next exam, unless there is none. */
  page.after = async () => {
    page.dirty = false;
    page.lease = "";
    const found = await post("/api/queue/next", page.nextBody());
    if (found.next) await page.go(found.next.exam_id, found.next.lease);
    else {
      toast(t("没有等待您处理的检查"), "info", 4);
      await page.reload();
    }
  };

  const next = () =>
    page.once(async () => {
      if (page.writes() && page.dirty && !(await page.settled())) return;
      const held = page.holds();
      if (held) {
        const leave = await ask(t("这份报告还没有提交。草稿已保存,放回队列并打开下一份吗?"), { yes: t("放回并打开下一份") });
        if (!leave) return;
        await post(`/api/exams/${page.exam.exam_id}/release`, { lease: page.lease });
        page.lease = "";
      }
      const found = await post("/api/queue/next", page.nextBody({ without: page.exam.exam_id }));
      if (found.next) await page.go(found.next.exam_id, found.next.lease);
      else {
        toast(t("没有等待您处理的检查"), "info");
        if (held) await page.reload();
      }
    });

  page.act("next", next);
  page.key("Alt+n", t("下一份检查"), next);
  page.key("Alt+q", t("回到队列"), page.toQueue);
  window.addEventListener("popstate", () => location.reload());
}
