// Who is whom: comparing, deciding, correcting.
import { ApiError, post } from "../api.js";
import { onSubmit, showFields, texts } from "../forms.js";
import { data, t } from "../i18n.js";
import { ask, toast } from "../ui.js";

/* --- two found patients side by side --------------------------------------------------------------------------- */

const compare = document.querySelector("[data-compare]");
const picked = () => [...document.querySelectorAll("[data-pick]:checked")].map((box) => box.value);

document.addEventListener("change", (event) => {
  if (compare && event.target.matches("[data-pick]")) compare.disabled = picked().length !== 2;
});

compare?.addEventListener("click", async () => {
  const [one, two] = picked();
  const pair = await post("/api/patients/pairs", { one_id: one, two_id: two });
  location.assign(`/patients/pairs/${pair.id}`);
});

/* --- the decision ----------------------------------------------------------------------------------------------- */

const decide = document.getElementById("decide");
const QUESTIONS = {
  link: () => t("确定这两条记录是同一个人?阅片医生将在既往检查中看到另一侧的影像与报告。"),
  "keep-apart": () => t("确定是两个人?系统不会再提示,也不会自动关联。"),
  undo: () => t("撤销关联?双方恢复为两个人,阅片医生立即看不到另一侧的检查,系统也不会再自动关联。"),
};

decide?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const deed = event.submitter.value;
  const { pair, version } = data("pair-data");
  const body = { reason: decide.elements.reason.value, version };
  if (deed === "undo" && decide.querySelector("[data-with-one]")) {
    body.with_one = [...decide.querySelectorAll("[data-with-one]:checked")].map((box) => box.value);
  }
  if (body.reason.trim().length > 1 && !(await ask(QUESTIONS[deed]()))) return;
  try {
    await post(`/api/patients/pairs/${pair}/${deed}`, body);
    location.reload();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 409) toast(error.message, "bad");
    else showFields(decide, error);
  }
});

/* --- putting right what was typed wrong ----------------------------------------------------------------------- */

for (const form of document.querySelectorAll("[data-correct]")) {
  onSubmit(
    form,
    () => {
      const { name, sex, birth_date: born, identity_number: number, reason } = texts(form);
      const body = { name, sex, reason };
      if (born) body.birth_date = born;
      if (number.trim()) body.identity_number = number;
      else if (form.elements.no_number?.checked) body.identity_number = "";
      return post(`/api/patients/${form.dataset.correct}/correct`, body);
    },
    () => location.reload(),
  );
}
