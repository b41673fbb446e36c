// Reading again, blindly: one's own verdict first, then the report and its grade.
import { post } from "../api.js";
import { onSubmit } from "../forms.js";
import { t } from "../i18n.js";
import { ask, toast } from "../ui.js";

const verdict = document.getElementById("verdict-form");
const grade = document.getElementById("grade-form");
const chosen = (form, name) => form.querySelector(`[name=${name}]:checked`)?.value ?? "";
const yes = (value) => (value ? value === "yes" : null);

onSubmit(
  verdict,
  (form) =>
    post(`/api/peer/${form.dataset.peer}/verdict`, {
      verdict: form.elements.verdict.value,
      positive: yes(chosen(form, "positive")),
    }),
  () => location.reload(),
);

verdict?.querySelector("[data-decline]").addEventListener("click", async () => {
  const reason = await ask(t("这份检查会交给其他医师复阅,您不再能看它的影像。"), { title: t("不宜由我复阅"), input: t("原因"), yes: t("退回") });
  if (!reason?.trim()) return;
  await post(`/api/peer/${verdict.dataset.peer}/decline`, { reason });
  location.assign("/peer");
});

function showScore() {
  const agreement = chosen(grade, "agreement");
  const significant = chosen(grade, "significant");
  grade.querySelector("[data-difference]").hidden = !agreement || agreement === "agree";
  let score = agreement === "agree" ? "1" : "";
  if (agreement && agreement !== "agree" && significant) score = (agreement === "minor" ? "2" : "3") + (significant === "yes" ? "b" : "a");
  grade.querySelector("[data-score]").textContent = score ? `RADPEER ${score}` : "";
}
grade?.addEventListener("change", showScore);

onSubmit(
  grade,
  (form) => {
    const agreement = chosen(form, "agreement");
    return post(`/api/peer/${form.dataset.peer}/grade`, {
      agreement,
      significant: agreement === "agree" ? null : yes(chosen(form, "significant")),
      note: form.elements.note.value,
    });
  },
  () => {
    toast(t("已完成复阅"), "ok", 3);
    location.assign("/peer");
  },
);
