// Limits and working calendar: gathers the form, sends it, shows each refusal beside its field.
import { put } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";

const split = (text) => text.split(/[,\uff0c;\uff1b\u3001\s]+/).filter(Boolean);

// People type full-width colons and dashes of every kind.
function spans(text) {
  const found = text
    .replace(/[\u2010-\u2015\u2212\uff0d\uff5e~\u81f3\u5230]/g, "-")
    .replace(/\uff1a/g, ":")
    .replace(/\s*-\s*/g, "-");
  return split(found).map((part) => part.split("-"));
}

function gatherLimits(form) {
  const classes = {};
  for (const row of form.querySelectorAll("[data-class]")) {
    classes[row.dataset.class] = {
      minutes: Number(row.querySelector("[name=minutes]").value),
      clock: row.querySelector("[name=clock]").value,
      working: row.querySelector("[name=working]").checked,
    };
  }
  const stages = {};
  for (const input of form.querySelectorAll("input[data-stage]")) stages[input.dataset.stage] = Number(input.value);
  return {
    classes,
    stages,
    national_minutes: Number(form.querySelector("#national-minutes").value),
    national_target: Number(form.querySelector("#national-target").value),
    pauses: form.querySelector("#pauses").checked,
  };
}

function gatherCalendar(form) {
  return {
    week: [...form.querySelectorAll("[data-week]")].map((input) => spans(input.value)),
    holidays: split(form.querySelector("#holidays").value),
    make_up: split(form.querySelector("#make-up").value),
    make_up_hours: spans(form.querySelector("#make-up-hours").value),
  };
}

function clear(form) {
  for (const field of form.querySelectorAll("[data-field]")) {
    field.classList.remove("has-error");
    field.querySelector(".field-error")?.remove();
  }
}

function refuse(form, fields) {
  let first = null;
  for (const [name, message] of Object.entries(fields ?? {})) {
    const field = form.querySelector(`[data-field="${CSS.escape(name)}"]`);
    if (!field) continue;
    field.classList.add("has-error");
    const note = document.createElement("div");
    note.className = "field-error";
    note.textContent = message;
    field.append(note);
    first ??= field.querySelector("input, select, textarea");
  }
  first?.focus();
}

function bind(id, url, gather, done) {
  const form = document.getElementById(id);
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear(form);
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      await put(url, gather(form));
      toast(done, "ok");
    } catch (error) {
      refuse(form, error.problem?.fields);
      toast(error.message, "bad");
    } finally {
      button.disabled = false;
    }
  });
}

bind("limits-form", "/api/turnaround/settings/limits", gatherLimits, t("时限已保存"));
bind("calendar-form", "/api/turnaround/settings/calendar", gatherCalendar, t("工作日历已保存"));
