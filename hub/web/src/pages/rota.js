// The rota: shifts by form, a CSV file as a whole or not at all, what each reader reads.
import { ApiError, api, del, post, put } from "../api.js";
import { data, t } from "../i18n.js";
import { ask, toast } from "../ui.js";

const { people = [] } = data("rota-data");
const table = document.getElementById("rota");
const dialog = document.getElementById("shift-dialog");
const form = document.getElementById("shift-form");
let editing = "";

function fillPeople(hospital, chosen = "") {
  form.elements.person.replaceChildren(
    ...people
      .filter((one) => one.hospital === hospital)
      .map((one) => new Option(`${one.name} (${one.login})`, one.login, false, one.login === chosen)),
  );
}

function open(shift) {
  editing = shift.id ?? "";
  form.elements.hospital.value = shift.hospital;
  fillPeople(shift.hospital, shift.login);
  form.elements.starts.value = shift.starts ?? "";
  form.elements.ends.value = shift.ends ?? "";
  form.elements.role.value = shift.role ?? "all";
  form.elements.skills.value = (shift.skills ?? []).join(";");
  document.getElementById("shift-remove").hidden = !editing;
  document.getElementById("shift-error").hidden = true;
  dialog.showModal();
  form.elements.person.focus();
}

function nextDay(day) {
  const date = new Date(`${day}T00:00:00Z`);
  date.setUTCDate(date.getUTCDate() + 1);
  return date.toISOString().slice(0, 10);
}

function told(error) {
  if (!(error instanceof ApiError)) throw error;
  const [text = error.message] = Object.values(error.problem?.fields ?? {});
  const place = document.getElementById("shift-error");
  place.textContent = text;
  place.hidden = false;
}

if (dialog) {
  table.addEventListener("click", (event) => {
    const shift = event.target.closest("[data-shift]");
    const add = event.target.closest("[data-add]");
    if (shift) open(JSON.parse(shift.dataset.shift));
    else if (add) open({ hospital: add.dataset.add, starts: `${add.dataset.day}T08:00`, ends: `${nextDay(add.dataset.day)}T08:00` });
  });
  document.getElementById("add-shift").addEventListener("click", () => {
    const first = table.querySelector("[data-add]");
    open({ hospital: form.elements.hospital.options[0].value, starts: `${first.dataset.day}T08:00`, ends: `${first.dataset.day}T20:00` });
  });
  form.elements.hospital.addEventListener("change", () => fillPeople(form.elements.hospital.value));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = Object.fromEntries(new FormData(form));
    try {
      if (editing) await put(`/api/rota/${editing}`, body);
      else await post("/api/rota", body);
      dialog.close();
      toast(t("班次已保存"), "ok");
    } catch (error) {
      told(error);
    }
  });
  document.getElementById("shift-remove").addEventListener("click", async () => {
    dialog.close();
    if (!(await ask(t("删除这个班次?"), { danger: true, yes: t("删除") }))) return;
    await del(`/api/rota/${editing}`);
    toast(t("班次已删除"), "ok");
  });
  startImport();
  startSkills();
}

// --- a file ---

function startImport() {
  const importForm = document.getElementById("import-form");
  const result = document.getElementById("import-result");
  const apply = document.getElementById("import-apply");
  const file = document.getElementById("import-file");
  const replace = document.getElementById("import-replace");

  const line = (text, tone = "") => {
    const made = document.createElement("div");
    made.className = tone;
    made.textContent = text;
    return made;
  };

  async function send(dry) {
    if (!file.files.length) {
      result.replaceChildren(line(t("请选择文件"), "field-error"));
      return null;
    }
    const body = new FormData();
    body.set("file", file.files[0]);
    body.set("replace", String(replace.checked));
    body.set("dry", String(dry));
    try {
      const found = await api("/api/rota/import", { method: "POST", body });
      const parts = [];
      if (found.errors.length) {
        parts.push(line(t("有 {n} 处不对,什么都没有导入:", { n: found.errors.length }), "strong tone-bad"));
        const list = document.createElement("ul");
        list.className = "import-errors";
        for (const error of found.errors) {
          const item = document.createElement("li");
          item.textContent = t("第 {line} 行:{text}", { line: error.line, text: error.message });
          list.append(item);
        }
        parts.push(list);
      } else {
        parts.push(line(t("新增 {added} 个班次,已有 {known} 个,删去 {removed} 个", found), "strong tone-ok"));
      }
      result.replaceChildren(...parts);
      return found;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      result.replaceChildren(line(error.message, "field-error"));
      return null;
    }
  }

  for (const input of [file, replace]) {
    input.addEventListener("change", () => {
      apply.disabled = true;
      result.replaceChildren();
    });
  }
  document.getElementById("import-try").addEventListener("click", async () => {
    const found = await send(true);
    apply.disabled = !found || found.errors.length > 0;
  });
  importForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    const found = await send(false);
    if (!found?.written) return;
    document.getElementById("import-dialog").close();
    toast(t("已导入 {n} 个班次", { n: found.added }), "ok");
  });
}

// --- what people read ---

function startSkills() {
  document.querySelector("main").addEventListener("click", async (event) => {
    const button = event.target.closest("[data-skills]");
    if (!button) return;
    const typed = await askSkills(button.dataset.name, button.dataset.now);
    if (typed === null) return;
    try {
      const found = await put(`/api/rota/skills/${button.dataset.skills}`, { skills: typed });
      button.dataset.now = found.skills.join(";");
      const place = button.closest("tr").querySelector("[data-words]");
      place.textContent = found.words.length ? found.words.join(t("、")) : t("全部");
      toast(t("已保存"), "ok");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.problem?.fields?.skills ?? error.message, "bad");
    }
  });
}

/** Ask what somebody reads; the empty text is an answer. */
function askSkills(name, now) {
  return new Promise((resolve) => {
    const box = document.createElement("dialog");
    box.className = "dialog";
    const inner = document.createElement("form");
    inner.method = "dialog";
    const head = document.createElement("div");
    head.className = "dialog-head";
    head.textContent = t("{name}的阅片能力", { name });
    const body = document.createElement("div");
    body.className = "dialog-body stack stack--sm";
    const label = document.createElement("label");
    label.className = "field";
    const caption = document.createElement("span");
    caption.className = "field-label";
    caption.textContent = t("检查类型,或检查类型:部位,用分号隔开;空为全部");
    const input = document.createElement("input");
    input.className = "input";
    input.maxLength = 400;
    input.value = now;
    input.placeholder = "CT;DX:chest";
    label.append(caption, input);
    body.append(label);
    const foot = document.createElement("div");
    foot.className = "dialog-foot";
    const cancel = document.createElement("button");
    cancel.type = "button";
    cancel.className = "btn";
    cancel.textContent = t("取消");
    cancel.addEventListener("click", () => box.close("no"));
    const ok = document.createElement("button");
    ok.className = "btn btn--primary";
    ok.value = "yes";
    ok.textContent = t("保存");
    foot.append(cancel, ok);
    inner.append(head, body, foot);
    box.append(inner);
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue === "yes" ? input.value : null);
    });
    document.body.append(box);
    box.showModal();
  });
}
