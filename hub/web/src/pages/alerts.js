// Alerts of limits: acknowledged one by one, or all that are shown.
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { ask, tick, toast } from "../ui.js";

const list = document.getElementById("alerts");

async function acknowledge(ids) {
  if (ids.length === 0) return;
  try {
    await post("/api/alerts/acknowledge", { ids });
    for (const id of ids) list.querySelector(`[data-alert="${CSS.escape(id)}"]`)?.remove();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message, "warn");
  }
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("[data-acknowledge]");
  if (button) acknowledge([button.dataset.acknowledge]);
});

document.getElementById("acknowledge-all").addEventListener("click", async () => {
  const ids = [...list.querySelectorAll("[data-alert]")].map((row) => row.dataset.alert);
  if (ids.length === 0) toast(t("没有未确认的提醒"), "info");
  else if (await ask(t("确认列表中的 {n} 条提醒?", { n: ids.length }))) await acknowledge(ids);
});

document.addEventListener("htmx:afterSettle", () => tick(list));
