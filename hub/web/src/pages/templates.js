// Templates and phrases: find, add, change, remove, import.
import { ApiError, api, del, post, put } from "../api.js";
import { clearFields, onSubmit, texts } from "../forms.js";
import { data, t } from "../i18n.js";
import { ask, onKey, toast } from "../ui.js";

const $ = (id) => document.getElementById(id);
const known = data("texts-data");
const KINDS = {
  template: {
    rows: known.templates,
    path: "/api/templates",
    fields: ["name", "scope", "modality", "body_part", "sex", "age_from", "age_to", "technique", "findings", "impression", "recommendation"],
    titles: [t("新增模板"), t("修改模板")],
  },
  phrase: { rows: known.phrases, path: "/api/phrases", fields: ["scope", "code", "modality", "text"], titles: [t("新增短语"), t("修改短语")] },
};

// --- finding ------------------------------------------------------------------------------------------------------

const pane = () => $("tab-templates").getAttribute("aria-selected") === "true" ? $("pane-templates") : $("pane-phrases");

function find() {
  const [words, scope, modality, part] = ["find", "find-scope", "find-modality", "find-part"].map((id) => $(id).value.trim().toLowerCase());
  for (const row of document.querySelectorAll("[data-row]")) {
    const { search, scope: whose, modality: kind, part: where } = row.dataset;
    row.hidden = !(
      search.includes(words) &&
      (!scope || whose === scope) &&
      (!modality || kind === "" || kind.toLowerCase() === modality) &&
      (!part || where === "" || where === part)
    );
  }
  $("found").textContent = t("共 {n} 条", { n: pane().querySelectorAll("[data-row]:not([hidden])").length });
}
for (const id of ["find", "find-scope", "find-modality", "find-part"]) $(id).addEventListener("input", find);
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => {
    history.replaceState(null, "", tab.id === "tab-phrases" ? "#phrases" : "#");
    setTimeout(find);
  });
}
if (location.hash === "#phrases") $("tab-phrases").click();
find();
onKey("/", t("查找"), () => $("find").focus());

// --- adding and changing ------------------------------------------------------------------------------------------

let editing = { kind: "template", id: "" };

/** Open the form of a kind with values; without an id it makes a new one. */
function open(kind, values, id = "") {
  editing = { kind, id };
  const dialog = $(`${kind}-dialog`);
  const form = $(`${kind}-form`);
  clearFields(form);
  form.reset();
  $(`${kind}-title`).textContent = KINDS[kind].titles[id ? 1 : 0];
  for (const name of KINDS[kind].fields) {
    const field = form.elements[name];
    if (values[name] !== undefined && values[name] !== null) field.value = values[name];
  }
  // Whose it is stays.
  form.elements.scope.disabled = id !== "";
  if (kind === "template") form.elements.normal.checked = Boolean(values.normal);
  form.querySelector("[data-remove]").hidden = id === "";
  dialog.showModal();
}

const year = (text) => (text === "" ? null : Number(text));

function bodyOf(kind, form) {
  const body = { ...texts(form, KINDS[kind].fields), scope: form.elements.scope.value };
  if (kind === "template") Object.assign(body, { age_from: year(body.age_from), age_to: year(body.age_to), normal: form.elements.normal.checked });
  return body;
}

for (const kind of ["template", "phrase"]) {
  onSubmit(
    $(`${kind}-form`),
    (form) => {
      const { path } = KINDS[kind];
      const body = bodyOf(kind, form);
      return editing.id ? put(`${path}/${editing.id}`, body) : post(path, body);
    },
    () => location.reload(),
  );
  $(`${kind}-form`).querySelector("[data-remove]").addEventListener("click", async () => {
    if (!(await ask(t("删除后不能恢复;已写的报告不受影响。"), { title: t("删除"), yes: t("删除"), danger: true }))) return;
    await del(`${KINDS[kind].path}/${editing.id}`);
    location.reload();
  });
}

document.addEventListener("click", ({ target }) => {
  const button = target instanceof Element ? target.closest("[data-edit], [data-new], [data-copy-own]") : null;
  if (!button) return;
  const { edit, id, copyOwn } = button.dataset;
  if (edit) open(edit, KINDS[edit].rows[id], id);
  else if (copyOwn) open("template", { ...known.templates[copyOwn], scope: "own" });
  else open(button.dataset.new, { scope: "own", modality: $("find-modality").value || (button.dataset.new === "template" ? "CT" : ""), body_part: $("find-part").value || "head" });
});

// --- import -------------------------------------------------------------------------------------------------------

const importForm = $("import-form");
let checked = false;

function told(...nodes) {
  $("import-told").replaceChildren(...nodes);
}

function setChecked(value) {
  checked = value;
  $("import-go").textContent = value ? t("导入") : t("检查文件");
}

importForm.addEventListener("change", () => {
  setChecked(false);
  told();
});
importForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = importForm.elements.file.files[0];
  if (!file) {
    toast(t("请选择文件"), "warn");
    return;
  }
  const body = new FormData(importForm);
  body.set("apply", String(checked));
  $("import-go").disabled = true;
  try {
    const done = await api("/api/texts/import", { method: "POST", body });
    if (done.applied) {
      location.hash = body.get("kind") === "phrases" ? "phrases" : "";
      location.reload();
      return;
    }
    told(t("可以导入:新增 {added} 条,更新 {changed} 条,{same} 条没有变化。", done));
    setChecked(true);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const head = document.createElement("div");
    head.className = "tone-bad";
    head.textContent = error.message;
    const list = document.createElement("ul");
    list.append(
      ...Object.values(error.problem.fields ?? {}).map((text) => {
        const item = document.createElement("li");
        item.textContent = text;
        return item;
      }),
    );
    told(head, list);
    setChecked(false);
  } finally {
    $("import-go").disabled = false;
  }
});
