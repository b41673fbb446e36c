// A changed conclusion is acknowledged by name: the person who is logged in says that he knows.
import { post } from "./api.js";
import { t } from "./i18n.js";
import { ask, toast } from "./ui.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-acknowledge]");
  if (!button) return;
  const note = await ask(
    t("以“{name}”的名义确认:已知悉正式报告改变了急诊报告的结论,并已据此处理患者。处理情况可写在下面(可不填)。", { name: button.dataset.who }),
    { title: t("署名确认"), yes: t("确认知悉"), input: t("处理情况"), optional: true },
  );
  if (note === null || note === false) return;
  await post(`/api/conclusion-changes/${button.dataset.acknowledge}/acknowledge`, { note });
  toast(t("已署名确认"), "ok", 4);
  location.reload();
});
