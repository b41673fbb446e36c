// Public verification: a code leads to its page, a file is sent and judged.
import { ApiError, api } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";

const $ = (id) => document.getElementById(id);

$("code-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const code = $("code").value.trim();
  if (code) location.assign(`/v/${encodeURIComponent(code)}`);
});

async function judge(file) {
  if (!file) return;
  $("drop").classList.add("is-busy");
  const body = new FormData();
  body.set("file", file);
  try {
    $("verdict").innerHTML = await api("/api/verify", { method: "POST", body, headers: { Accept: "text/html" } });
    $("verdict").scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message || t("查验没有完成"), "bad");
  } finally {
    $("drop").classList.remove("is-busy");
    $("file").value = "";
  }
}

$("file").addEventListener("change", () => judge($("file").files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("is-over", kind === "dragover");
    if (kind === "drop") judge(event.dataTransfer.files[0]);
  });
}
