// The county's lists of reasons and questions: rows are added, moved and taken away here, and saved as one.
import { ApiError, put } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";

const form = document.getElementById("conversation-form");

form.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const add = target?.closest("[data-add]");
  if (add) {
    const part = add.closest("[data-part]");
    const rows = part.querySelector("[data-rows]");
    rows.append(part.querySelector("[data-template]").content.cloneNode(true));
    rows.lastElementChild.querySelector("input").focus();
    return;
  }
  const row = target?.closest("[data-row]");
  if (target?.closest("[data-remove]")) row.remove();
  else if (target?.closest("[data-up]")) row.previousElementSibling?.before(row);
});

function list(part) {
  return [...form.querySelectorAll(`[data-part="${part}"] [data-rows] [data-row]`)].map((row) => ({
    code: row.querySelector("[name=code]").value.trim(),
    name: row.querySelector("[name=name]").value.trim(),
    name_en: row.querySelector("[name=name_en]").value.trim(),
    modalities: [...row.querySelectorAll("[data-modality]:checked")].map((box) => box.value),
  }));
}

const number = (id) => Number(document.getElementById(id).value);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    await put("/api/conversation/settings", {
      retake: list("retake"),
      decline: list("decline"),
      questions: document.getElementById("questions").value.split("\n"),
      keep_minutes: number("keep"),
      keep_minutes_emergency: number("keep-emergency"),
    });
    toast(t("已保存"), "ok");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const [name, said] = Object.entries(error.problem?.fields ?? {})[0] ?? [];
    toast(said ?? error.message, "bad");
    const [part, index, field] = (name ?? "").split(".");
    form.querySelectorAll(`[data-part="${CSS.escape(part)}"] [data-row]`)[Number(index)]?.querySelector(`[name=${field}]`)?.focus();
  } finally {
    button.disabled = false;
  }
});
