// Which checks of a report are on: gathers the choices and sends them.
import { put } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";

const form = document.getElementById("checks-form");
const org = document.getElementById("checks-org");

org.addEventListener("change", () => org.form.requestSubmit());

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  const levels = {};
  for (const row of form.querySelectorAll("[data-check]")) levels[row.dataset.check] = row.querySelector("select").value;
  try {
    await put("/api/checks/settings", { org_id: form.dataset.org || null, levels });
    toast(t("报告检查设置已保存"), "ok");
  } catch (error) {
    toast(error.message, "bad");
  } finally {
    button.disabled = false;
  }
});
