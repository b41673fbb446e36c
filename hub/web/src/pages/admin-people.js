// People: add, change, reset the password, log out.
import { del, patch, post } from "../api.js";
import { clearFields, onSubmit, showSecret, texts, ticked } from "../forms.js";
import { data, t } from "../i18n.js";
import { ask, toast } from "../ui.js";

const { people, kinds, rolesAt, roles, self } = data("people-data");
const addForm = document.getElementById("add-form");
const editDialog = document.getElementById("edit-dialog");
const editForm = document.getElementById("edit-form");
let person = null;

/** Offer the roles that make sense at an organisation; those already held stay visible. */
function offerRoles(form, orgId, held, locked = false) {
  const allowed = rolesAt[kinds[orgId]] ?? [];
  const shown = roles.filter(([code]) => allowed.includes(code) || held.includes(code));
  form.querySelector("[data-roles]").replaceChildren(
    ...shown.map(([code, name]) => {
      const label = document.createElement("label");
      label.className = "check";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.name = "roles";
      box.value = code;
      box.checked = held.includes(code);
      box.disabled = locked;
      const words = document.createElement("span");
      words.textContent = name;
      label.append(box, words);
      return label;
    }),
  );
}

const addOrg = addForm.elements.org_id;
addOrg.addEventListener("change", () => offerRoles(addForm, addOrg.value, ticked(addForm, "roles")));
offerRoles(addForm, addOrg.value, []);

onSubmit(
  addForm,
  (form) => post("/api/admin/people", { ...texts(form, ["org_id", "login", "name", "name_en", "title", "phone"]), roles: ticked(form, "roles") }),
  (made) => {
    document.getElementById("add-dialog").close();
    showSecret(made.password, made.login);
  },
);

for (const button of document.querySelectorAll("[data-edit]")) {
  button.addEventListener("click", () => {
    person = people[button.dataset.edit];
    clearFields(editForm);
    editDialog.querySelector("[data-edit-login]").textContent = person.login;
    for (const name of ["name", "name_en", "title", "phone"]) editForm.elements[name].value = person[name];
    editForm.elements.licence_number.value = person.licence.number;
    editForm.elements.licence_scope.value = person.licence.scope;
    editForm.elements.licence_expires.value = person.licence.expires ?? "";
    editForm.elements.active.checked = person.active;
    const own = person.id === self;
    editForm.elements.active.disabled = own;
    offerRoles(editForm, person.org_id, person.roles, own);
    for (const other of editDialog.querySelectorAll("[data-reset], [data-log-out]")) other.hidden = own;
    editDialog.querySelector("[data-audit]").href = `/admin/audit?person=${encodeURIComponent(person.id)}`;
    editDialog.showModal();
  });
}

onSubmit(
  editForm,
  (form) => {
    const sent = { ...texts(form, ["name", "name_en", "title", "phone"]) };
    sent.licence = {
      number: form.elements.licence_number.value,
      scope: form.elements.licence_scope.value,
      expires: form.elements.licence_expires.value || null,
    };
    if (person.id !== self) {
      const chosen = ticked(form, "roles");
      if ([...chosen].sort().join() !== [...person.roles].sort().join()) sent.roles = chosen;
      if (form.elements.active.checked !== person.active) sent.active = form.elements.active.checked;
    }
    return patch(`/api/admin/people/${person.id}`, sent);
  },
  () => location.reload(),
);

editDialog.querySelector("[data-reset]").addEventListener("click", async () => {
  const agreed = await ask(t("将为 {name} 生成新的初始密码,退出其所有设备并关闭两步验证。", { name: person.name }), {
    title: t("重置密码"),
    yes: t("重置"),
    danger: true,
  });
  if (!agreed) return;
  const made = await post(`/api/admin/people/${person.id}/password`);
  editDialog.close();
  showSecret(made.password, made.login);
});

editDialog.querySelector("[data-log-out]").addEventListener("click", async () => {
  const agreed = await ask(t("{name} 在所有设备上的登录将立即失效。", { name: person.name }), { yes: t("强制退出"), danger: true });
  if (!agreed) return;
  await del(`/api/admin/people/${person.id}/sessions`);
  toast(t("已退出所有设备"), "ok");
});
