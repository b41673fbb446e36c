// A hospital's policy of review.
import { put } from "../api.js";
import { onSubmit, ticked } from "../forms.js";
import { data, t } from "../i18n.js";
import { toast } from "../ui.js";

const form = document.getElementById("policy-form");
const rows = document.getElementById("target-rows");
const SEPARATORS = /[,\uff0c\u3001;\uff1b]/;
const FLAGS = ["alone_emergency", "preliminary", "preliminary_attending", "preliminary_emergency", "grade_required"];

const hours = (text) =>
  text
    .split(SEPARATORS)
    .map((span) => span.trim())
    .filter(Boolean)
    .map((span) => span.split(/\s*[-\u2013\u2014~\u81f3]\s*/));
const list = (text) => text.split(SEPARATORS).map((one) => one.trim()).filter(Boolean);
const share = (text) => Number((Number(text || 0) / 100).toFixed(4));
const percent = (rate) => String(Number((rate * 100).toFixed(2)));

function addTarget(target) {
  const row = document.getElementById("target-row").content.firstElementChild.cloneNode(true);
  for (const field of row.querySelectorAll("[data-target]")) {
    const name = field.dataset.target;
    if (field.type === "checkbox") field.checked = target[name];
    else field.value = name === "rate" ? percent(target.rate) : target[name];
  }
  rows.append(row);
}

function mode() {
  return form.querySelector("[name=mode]:checked").value;
}

function showParts() {
  form.querySelector('[data-mode="sometimes"]').hidden = mode() !== "sometimes";
  form.querySelector('[data-if="preliminary"]').hidden = !form.elements.preliminary.checked;
}

function fill({ double_signature: double, review }) {
  const chosen = double ? (review.alone ? "sometimes" : "double") : "single";
  form.querySelector(`[name=mode][value=${chosen}]`).checked = true;
  for (const name of FLAGS) form.elements[name].checked = review[name];
  for (const name of ["alone_hours", "preliminary_hours"]) form.elements[name].value = review[name].map((span) => span.join("-")).join(", ");
  for (const box of form.querySelectorAll("[name=alone_by]")) box.checked = review.alone_by.includes(box.value);
  form.elements.resident_titles.value = review.resident_titles.join("、");
  for (const select of form.querySelectorAll("[data-person]")) {
    const { person } = select.dataset;
    select.value = review.residents.includes(person) ? "resident" : review.attendings.includes(person) ? "attending" : "";
  }
  for (const name of ["arbiter_id", "panel", "peer_days"]) form.elements[name].value = review[name];
  for (const field of form.querySelectorAll("[data-rate]")) {
    const rate = review.random[field.dataset.rate];
    field.value = rate === undefined ? "" : percent(rate);
  }
  rows.replaceChildren();
  for (const target of review.targets) addTarget(target);
  showParts();
}

function collect() {
  const people = (kind) => [...form.querySelectorAll("[data-person]")].filter((one) => one.value === kind).map((one) => one.dataset.person);
  const rates = [...form.querySelectorAll("[data-rate]")].filter((field) => field.value !== "");
  return {
    double_signature: mode() !== "single",
    review: {
      ...Object.fromEntries(FLAGS.map((name) => [name, form.elements[name].checked])),
      alone: mode() === "sometimes",
      alone_by: ticked(form, "alone_by"),
      alone_hours: hours(form.elements.alone_hours.value),
      preliminary_hours: hours(form.elements.preliminary_hours.value),
      resident_titles: list(form.elements.resident_titles.value),
      residents: people("resident"),
      attendings: people("attending"),
      arbiter_id: form.elements.arbiter_id.value,
      random: Object.fromEntries(rates.map((field) => [field.dataset.rate, share(field.value)])),
      targets: [...rows.children].map((row) =>
        Object.fromEntries(
          [...row.querySelectorAll("[data-target]")].map((field) => [
            field.dataset.target,
            field.type === "checkbox" ? field.checked : field.dataset.target === "rate" ? share(field.value) : field.value,
          ]),
        ),
      ),
      panel: form.elements.panel.value,
      peer_days: Number(form.elements.peer_days.value),
    },
  };
}

if (form) {
  fill(data("policy-data"));
  form.addEventListener("change", showParts);
  document.getElementById("add-target").addEventListener("click", () => addTarget({ author_id: "", modality: "", body_part: "", critical: false, rate: 0.1 }));
  rows.addEventListener("click", (event) => event.target.closest("[data-remove-target]")?.closest("tr").remove());
  onSubmit(
    form,
    () => put(`/api/review-policies/${form.dataset.org}`, collect()),
    (answer) => {
      fill(answer);
      document.getElementById("policy-summary").replaceChildren(
        ...answer.summary.map((line) => {
          const item = document.createElement("li");
          item.textContent = line;
          return item;
        }),
      );
      toast(t("规定已保存"), "ok", 4);
      scrollTo({ top: 0, behavior: "smooth" });
    },
  );
}
