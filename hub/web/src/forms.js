// Forms that are sent as JSON: their values, the errors beside their fields, secrets that are shown once.
import { ApiError } from "./api.js";
import { t } from "./i18n.js";
import { toast } from "./ui.js";

/** Write the messages of an error (RFC 9457 with `fields`) beside the fields of a form; others become a toast. */
export function showFields(form, error) {
  clearFields(form);
  const fields = error.problem?.fields ?? {};
  let shown = 0;
  for (const [name, text] of Object.entries(fields)) {
    const field = form.querySelector(`[data-field="${CSS.escape(name.split(".")[0])}"]`);
    if (!field) continue;
    field.classList.add("has-error");
    const note = document.createElement("div");
    note.className = "field-error";
    note.setAttribute("role", "alert");
    note.textContent = text;
    field.append(note);
    if (!shown) field.querySelector("input, select, textarea")?.focus();
    shown += 1;
  }
  if (!shown) toast(error.message, "bad");
}

export function clearFields(form) {
  for (const note of form.querySelectorAll(".field-error")) note.remove();
  for (const field of form.querySelectorAll(".has-error")) field.classList.remove("has-error");
}

/** Send a form: `send(form)` does it, `done(answer, form)` follows; errors stand beside their fields. */
export function onSubmit(form, send, done) {
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const answer = await send(form);
      clearFields(form);
      done(answer, form);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      showFields(form, error);
    } finally {
      button.disabled = false;
    }
  });
}

/** The texts of a form's fields by name; only those in `names` if given. */
export function texts(form, names) {
  const all = Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string"));
  return names ? Object.fromEntries(names.map((name) => [name, all[name] ?? ""])) : all;
}

/** The values of the ticked boxes called `name`. */
export function ticked(form, name) {
  return [...form.querySelectorAll(`input[name="${name}"]:checked`)].map((box) => box.value);
}

/** Show a secret in the page's #secret-dialog, this once; the page is loaded anew when it is closed. */
export function showSecret(secret, login = "") {
  const dialog = document.getElementById("secret-dialog");
  const place = dialog.querySelector("[data-secret]");
  place.textContent = secret;
  const who = dialog.querySelector("[data-secret-login]");
  if (who) who.textContent = login;
  dialog.querySelector("[data-copy-secret]").addEventListener("click", () => copy(secret, place));
  dialog.querySelector("[data-secret-done]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("close", () => location.reload());
  dialog.showModal();
}

async function copy(text, place) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("已复制"), "ok");
  } catch {
    // Without TLS a browser gives no clipboard: mark the text, so that Ctrl+C takes it.
    getSelection().selectAllChildren(place);
    toast(t("已选中,请按 Ctrl+C 复制"), "info");
  }
}
