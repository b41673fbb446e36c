// Deciding whose images they are.
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { ask, toast } from "../ui.js";

const dialog = document.getElementById("move-dialog");
const form = document.getElementById("move-form");
let moving = null;

document.addEventListener("click", async (event) => {
  const target = event.target instanceof Element ? event.target.closest("[data-verify], [data-move]") : null;
  if (!target) return;
  if (target.dataset.verify) {
    const reason = await ask(t("请写明您凭什么确认(如:电话核实、核对身份证、当面确认)。"), {
      title: t("是同一位患者,继续"),
      input: t("依据"),
    });
    if (!reason) return;
    await post(`/api/exams/${target.dataset.verify}/verify`, { reason });
    toast(t("已核对,检查继续"), "ok");
    location.reload();
    return;
  }
  moving = { exam: target.dataset.move, study: target.dataset.study };
  const others = document.getElementById(moving.exam).querySelector("[data-others]");
  form.elements.to_exam_id.replaceChildren(others.content.cloneNode(true));
  form.elements.move_reason.value = "";
  form.querySelector("[data-move-error]").hidden = true;
  dialog.showModal();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = form.querySelector("[data-move-error]");
  try {
    await post(`/api/exams/${moving.exam}/studies/${moving.study}/move`, {
      to_exam_id: form.elements.to_exam_id.value || null,
      reason: form.elements.move_reason.value,
    });
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    error.textContent = Object.values(problem.problem.fields ?? {})[0] ?? problem.message;
    error.hidden = false;
    return;
  }
  dialog.close();
  location.reload();
});
