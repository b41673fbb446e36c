// A new version of a signed report: beginning one, giving it up.
import { post } from "../api.js";
import { t } from "../i18n.js";
import { ask } from "../ui.js";
import { $ } from "./page.js";

export function attach(page) {
  $("amend-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const { kind, reason } = event.target.elements;
    page.once(async () => {
      await post(`/api/exams/${page.exam.exam_id}/amend`, { kind: kind.value, reason: reason.value });
      $("amend-dialog").close();
      await page.reload();
    });
  });

  page.act("discard", async () => {
    if (!(await ask(t("放弃这个还没有签发的新版本吗?"), { yes: t("放弃"), danger: true }))) return;
    await page.once(async () => {
      await post(`/api/exams/${page.exam.exam_id}/discard`);
      page.forget();
      await page.reload();
    });
  });
}
