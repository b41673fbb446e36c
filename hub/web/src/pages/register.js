// Registration: finds known patients while typing, shows what applies, says what is wrong beside its field.
import { ApiError, get, patch, post } from "../api.js";
import { data, t } from "../i18n.js";
import { toast } from "../ui.js";

const form = document.getElementById("register");
const page = data("register-data");
const field = (name) => form.elements.namedItem(name);
const value = (name) => field(name)?.value ?? "";
const checkedParts = () => [...form.querySelectorAll('input[name="body_parts"]:checked')].map((box) => box.value);

function setRadio(name, wanted) {
  for (const radio of form.querySelectorAll(`input[name="${name}"]`)) radio.checked = radio.value === wanted;
}

/* --- what applies ---------------------------------------------------------------------------------------------- */

function ageYears() {
  const born = value("birth_date").trim().match(/^(\d{4})[-/.]?(\d{1,2})?/);
  if (born) return new Date().getFullYear() - Number(born[1]);
  const age = value("age").trim().match(/^(\d{1,3})\s*(.*)$/);
  if (!age) return null;
  return !age[2] || /^[\u5c81yY]/.test(age[2]) ? Number(age[1]) : 0;
}

function refresh() {
  const parts = checkedParts();
  const years = ageYears();
  const asked =
    value("sex") !== "M" &&
    page.ionising.includes(value("modality")) &&
    parts.some((part) => page.pregnancy_parts.includes(part)) &&
    (value("sex") === "F" || years !== null) &&
    (years === null || (years >= page.ages[0] && years <= page.ages[1]));
  const box = form.querySelector("[data-pregnancy]");
  box.hidden = !asked;
  if (!asked) setRadio("pregnancy", "");
  form.querySelector("[data-pregnant]").hidden = !["yes", "possible"].includes(value("pregnancy"));

  const regions = new Set(["common", ...parts.map((part) => page.regions[part])]);
  for (const phrase of form.querySelectorAll("[data-region]")) phrase.hidden = !regions.has(phrase.dataset.region);

  const encounter = value("encounter");
  form.querySelector("[data-encounter-label]").textContent = page.numbers[encounter];
  form.querySelector("[data-bed]").hidden = encounter !== "inpatient";
  for (const star of form.querySelectorAll("[data-not-checkup]")) star.hidden = encounter === "checkup";
  form.querySelector("[data-emergency-hint]").hidden = value("priority") !== "emergency";
}

/** The parts that this clinic asks for most come first. */
function orderParts() {
  const usual = page.common[value("modality")] ?? [];
  const box = form.querySelector("[data-parts]");
  const rank = (label) => {
    const at = usual.indexOf(label.querySelector("input").value);
    return at < 0 ? usual.length : at;
  };
  box.append(...[...box.children].sort((a, b) => rank(a) - rank(b)));
}

form.addEventListener("change", (event) => {
  if (event.target.name === "modality") orderParts();
  if (event.target.name === "priority" && event.target.value === "emergency" && value("encounter") === "outpatient") {
    field("encounter").value = "emergency";
  }
  refresh();
});
form.addEventListener("input", (event) => {
  const box = event.target.closest("[data-field]");
  if (box) clearError(box);
  if (["birth_date", "age"].includes(event.target.name)) refresh();
});

/* --- identity number ------------------------------------------------------------------------------------------- */

field("identity_number").addEventListener("input", () => {
  const typed = value("identity_number")
    .replace(/[0-9]/g, (digit) => String.fromCharCode(digit.charCodeAt(0) - 0xfee0))
    .replace(/\s/g, "")
    .toUpperCase();
  if (!/^\d{17}[\dX]$/.test(typed)) return;
  const weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
  const sum = weights.reduce((total, weight, at) => total + weight * Number(typed[at]), 0);
  if ("10X98765432"[sum % 11] !== typed[17]) {
    showError("identity_number", t("身份证号校验位不符,请核对"));
    return;
  }
  field("birth_date").value = `${typed.slice(6, 10)}-${typed.slice(10, 12)}-${typed.slice(12, 14)}`;
  field("age").value = "";
  setRadio("sex", Number(typed[16]) % 2 ? "M" : "F");
  refresh();
});

/* --- known patients -------------------------------------------------------------------------------------------- */

const list = document.getElementById("found-patients");
const nameField = field("name");
let found = [];
let active = -1;
let timer = 0;
let asked = 0;

function closeList() {
  list.hidden = true;
  nameField.setAttribute("aria-expanded", "false");
  active = -1;
}

function choose(patient) {
  field("patient_id").value = patient.id;
  nameField.value = patient.name;
  setRadio("sex", patient.sex);
  field("identity_number").value = patient.identity_number;
  field("birth_date").value = patient.birth_estimated ? "" : patient.birth_date;
  field("age").value = patient.age;
  field("number").value = patient.number;
  field("phone").value = patient.phone;
  const known = form.querySelector("[data-patient-known]");
  known.hidden = false;
  known.textContent = patient.last_exam_at
    ? t("本机构已有的患者,上次检查 {date}", { date: patient.last_exam_at.slice(0, 10) })
    : t("本机构已有的患者");
  for (const box of form.querySelectorAll(".has-error")) clearError(box);
  closeList();
  refresh();
  form.querySelector('input[name="modality"]').focus();
}

function mark(next) {
  active = (next + found.length) % found.length;
  [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === active)));
}

function show(patients) {
  found = patients;
  list.replaceChildren(
    ...patients.map((patient) => {
      const item = document.createElement("button");
      item.type = "button";
      item.className = "combo-item";
      item.setAttribute("role", "option");
      const name = document.createElement("span");
      name.className = "strong";
      name.textContent = patient.name;
      const more = document.createElement("span");
      more.className = "small muted";
      more.textContent = [{ M: t("男"), F: t("女") }[patient.sex], patient.birth_date, patient.number, patient.phone]
        .filter(Boolean)
        .join(" · ");
      item.append(name, more);
      item.addEventListener("mousedown", (event) => event.preventDefault());
      item.addEventListener("click", () => choose(patient));
      return item;
    }),
  );
  list.hidden = !patients.length;
  nameField.setAttribute("aria-expanded", String(!list.hidden));
  active = -1;
}

async function search(text) {
  const turn = ++asked;
  try {
    const patients = await get(`/api/patients/search?q=${encodeURIComponent(text)}`);
    if (turn === asked) show(patients);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) throw error;
  }
}

if (!page.exam) {
  for (const name of ["name", "number", "identity_number"]) {
    field(name).addEventListener("input", (event) => {
      clearTimeout(timer);
      if (name === "name") {
        field("patient_id").value = "";
        form.querySelector("[data-patient-known]").hidden = true;
      }
      const text = event.target.value.trim();
      if (event.isComposing || text.length < (name === "name" ? 1 : 4)) {
        closeList();
        return;
      }
      timer = setTimeout(() => search(text), 250);
    });
  }
  nameField.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown") mark(active + 1);
    else if (event.key === "ArrowUp") mark(active - 1);
    else if (event.key === "Enter" && active >= 0) choose(found[active]);
    else if (event.key === "Escape") closeList();
    else return;
    event.preventDefault();
  });
  nameField.addEventListener("blur", () => setTimeout(closeList, 150));
}

/* --- the doctor's phone follows the doctor --------------------------------------------------------------------- */

field("doctor").addEventListener("change", () => {
  const entry = page.phones.map((text) => text.split("\t")).find(([doctor]) => doctor === value("doctor").trim());
  if (!entry) return;
  if (!value("department")) field("department").value = entry[1];
  if (!value("doctor_phone")) field("doctor_phone").value = entry[2];
});

/* --- sending --------------------------------------------------------------------------------------------------- */

function clearError(box) {
  box.classList.remove("has-error");
  box.querySelector(".field-error")?.remove();
  for (const input of box.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function showError(name, text) {
  const box = form.querySelector(`[data-field="${name}"]`);
  if (!box) return false;
  clearError(box);
  box.hidden = false;
  box.classList.add("has-error");
  const line = document.createElement("div");
  line.className = "field-error";
  line.textContent = text;
  box.append(line);
  box.querySelector("input, select, textarea")?.setAttribute("aria-invalid", "true");
  return true;
}

function body() {
  const result = { body_parts: checkedParts() };
  for (const [name, text] of new FormData(form)) if (name !== "body_parts") result[name] = String(text);
  for (const name of ["sex", "pregnancy", "modality"]) result[name] ??= "";
  return result;
}

let sending = false;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending) return;
  sending = true;
  const next = event.submitter?.value ?? "upload";
  const buttons = form.querySelectorAll("button[type=submit]");
  const banner = form.querySelector("[data-form-error]");
  for (const box of form.querySelectorAll(".has-error")) clearError(box);
  banner.hidden = true;
  for (const button of buttons) button.disabled = true;
  try {
    const wanted = body();
    const exam = page.exam ? await patch(`/api/exams/${page.exam}`, wanted) : await post("/api/exams", wanted);
    // Before images are taken again: what the county has of the same kind is looked at first.
    const { recognition } = await post(`/api/exams/${exam.id}/recognition`, {}).catch(() => ({ recognition: null }));
    if (recognition?.state === "offered") {
      location.assign(`/clinic/exams/${exam.id}/recognition`);
      return;
    }
    if (next === "another") {
      sessionStorage.setItem("hub-registered", t("已登记:{name},检查号 {number}", { name: exam.patient.name, number: exam.accession }));
      location.assign("/clinic/register");
    } else location.assign(next === "exam" ? `/clinic/exams/${exam.id}` : `/clinic/upload?exam=${exam.id}`);
    return;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const fields = error.problem.fields ?? {};
    const rest = Object.entries(fields).filter(([name, text]) => !showError(name, text));
    banner.querySelector(".grow").textContent = Object.keys(fields).length
      ? [t("有 {n} 处需要修改", { n: Object.keys(fields).length }), ...rest.map(([, text]) => text)].join(";")
      : error.message;
    banner.hidden = false;
    const first = form.querySelector(".has-error");
    (first ?? banner).scrollIntoView({ block: "center" });
    first?.querySelector("input:not([type=hidden]), select, textarea")?.focus({ preventScroll: true });
  } finally {
    sending = false;
    for (const button of buttons) button.disabled = false;
  }
});

const said = sessionStorage.getItem("hub-registered");
if (said) {
  sessionStorage.removeItem("hub-registered");
  toast(said, "ok");
}
orderParts();
refresh();
