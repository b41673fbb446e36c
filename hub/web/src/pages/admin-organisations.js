// Organisations, who reads for whom, and API keys.
import { del, patch, post, put } from "../api.js";
import { clearFields, onSubmit, showSecret, texts, ticked } from "../forms.js";
import { data, t } from "../i18n.js";
import { ask } from "../ui.js";

const organisations = data("organisations-data");
const addForm = document.getElementById("add-form");
const editForm = document.getElementById("edit-form");
const editDialog = document.getElementById("edit-dialog");
let organisation = null;

function showForKind(form, kind) {
  for (const part of form.querySelectorAll("[data-for-kind]")) part.hidden = !part.dataset.forKind.split(" ").includes(kind);
}

function chosenReaders(form) {
  const chosen = [...form.querySelectorAll('select[name="reader"]')].map((select) => select.value).filter(Boolean);
  return [...new Set(chosen)];
}

const kind = addForm.elements.kind;
kind.addEventListener("change", () => showForKind(addForm, kind.value));
showForKind(addForm, kind.value);

onSubmit(
  addForm,
  (form) =>
    post("/api/admin/organisations", {
      ...texts(form, ["kind", "code", "name", "name_en", "phone"]),
      double_signature: form.elements.double_signature.checked,
      readers: kind.value === "clinic" ? chosenReaders(form) : [],
    }),
  () => location.reload(),
);

for (const button of document.querySelectorAll("[data-edit]")) {
  button.addEventListener("click", () => {
    organisation = organisations[button.dataset.edit];
    clearFields(editForm);
    editDialog.querySelector("[data-edit-code]").textContent = organisation.code;
    for (const name of ["name", "name_en", "phone"]) editForm.elements[name].value = organisation[name];
    editForm.elements.active.checked = organisation.active;
    editForm.elements.double_signature.checked = organisation.double_signature;
    for (const [place, select] of [...editForm.querySelectorAll('select[name="reader"]')].entries()) {
      select.value = organisation.readers[place] ?? "";
    }
    showForKind(editForm, organisation.kind);
    editDialog.showModal();
  });
}

onSubmit(
  editForm,
  async (form) => {
    const sent = texts(form, ["name", "name_en", "phone"]);
    if (form.elements.active.checked !== organisation.active) sent.active = form.elements.active.checked;
    if (["hospital", "tertiary"].includes(organisation.kind)) sent.double_signature = form.elements.double_signature.checked;
    await patch(`/api/admin/organisations/${organisation.id}`, sent);
    if (organisation.kind !== "clinic") return;
    const hospitals = [...new Set([...chosenReaders(form), ...organisation.readers.slice(3)])];
    if (hospitals.join() !== organisation.readers.join()) {
      await put(`/api/admin/organisations/${organisation.id}/readers`, { hospitals });
    }
  },
  () => location.reload(),
);

onSubmit(
  document.getElementById("key-form"),
  (form) =>
    post("/api/admin/keys", {
      ...texts(form, ["org_id", "label"]),
      scopes: ticked(form, "scopes"),
      expires_on: form.elements.expires_on.value || null,
    }),
  (made) => {
    document.getElementById("key-dialog").close();
    history.replaceState(null, "", "#keys");
    showSecret(made.key);
  },
);

for (const button of document.querySelectorAll("[data-revoke]")) {
  button.addEventListener("click", async () => {
    const agreed = await ask(t("停用密钥“{name}”后,使用它的设备立即不能再连接,且无法恢复。", { name: button.dataset.name }), {
      title: t("停用 API 密钥"),
      yes: t("停用"),
      danger: true,
    });
    if (!agreed) return;
    await del(`/api/admin/keys/${button.dataset.revoke}`);
    history.replaceState(null, "", "#keys");
    location.reload();
  });
}

if (location.hash === "#keys") document.getElementById("tab-keys").click();
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => history.replaceState(null, "", tab.id === "tab-keys" ? "#keys" : "#"));
}
