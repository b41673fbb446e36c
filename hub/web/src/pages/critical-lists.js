// Lists that are kept whole: contacts in their order, the county's classes.
import { ApiError, put } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";

const form = document.querySelector("#contacts-form, #rules-form");
const list = form?.querySelector("[data-contacts]");
const rows = () => [...list.querySelectorAll("[data-contact]")];

function add() {
  list.append(document.getElementById("contact-line").content.cloneNode(true));
  rows().at(-1).querySelector("input").focus();
}

function value(row, name) {
  return row.querySelector(`[name="${name}"]`)?.value.trim() ?? "";
}

function body() {
  if (form.id === "rules-form") {
    return {
      additions: rows().map((row) => ({ code: value(row, "code"), name: value(row, "name"), name_en: value(row, "name_en") })),
      escalate_minutes: Number(form.elements.escalate_minutes.value),
      breach_minutes: Number(form.elements.breach_minutes.value),
      change_escalate_minutes: Number(form.elements.change_escalate_minutes.value),
      change_breach_minutes: Number(form.elements.change_breach_minutes.value),
    };
  }
  return {
    contacts: rows().map((row) => ({
      name: value(row, "name"),
      role: value(row, "role"),
      phone: value(row, "phone"),
      begins: value(row, "begins"),
      ends: value(row, "ends"),
      days: [...row.querySelectorAll('[name="days"]:checked')].map((box) => Number(box.value)),
    })),
  };
}

function complain(error) {
  const fields = Object.entries(error.problem?.fields ?? {});
  let shown = 0;
  for (const [name, text] of fields) {
    const [, place, field] = name.split(".");
    const box = field
      ? rows()[Number(place)]?.querySelector(`[data-contact-field="${CSS.escape(field)}"]`)
      : form.querySelector(`[data-field="${CSS.escape(name)}"]`);
    if (!box) continue;
    const note = document.createElement("div");
    note.className = "field-error";
    note.setAttribute("role", "alert");
    note.textContent = text;
    box.append(note);
    box.classList.add("has-error");
    if (!shown) box.querySelector("input")?.focus();
    shown += 1;
  }
  if (!shown) toast(error.message, "bad");
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const note of form.querySelectorAll(".field-error")) note.remove();
  for (const box of form.querySelectorAll(".has-error")) box.classList.remove("has-error");
  try {
    await put(form.dataset.url, body());
    toast(t("已保存"), "ok");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    complain(error);
  }
});

form?.addEventListener("click", ({ target }) => {
  const button = target instanceof Element ? target.closest("button") : null;
  const row = button?.closest("[data-contact]");
  if (!button) return;
  if ("contactAdd" in button.dataset) add();
  else if ("contactRemove" in button.dataset) row.remove();
  else if ("contactUp" in button.dataset) row.previousElementSibling?.before(row);
  else if ("contactDown" in button.dataset) row.nextElementSibling?.after(row);
});

if (form && !rows().length && form.id === "contacts-form") add();
