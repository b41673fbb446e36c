// The routing rules: edited here as one draft, tried out before and after saving, saved as a new version.
import { ApiError, get, post, put } from "../api.js";
import { data, t } from "../i18n.js";
import { ask, toast } from "../ui.js";

const known = data("routing-data");
const orgs = new Map([...known.clinics, ...known.hospitals].map((org) => [org.code, org.name]));
const table = document.getElementById("rules");
const planForm = document.getElementById("plan-form");
const dialog = document.getElementById("rule-dialog");
const ruleForm = document.getElementById("rule-form");
const dryForm = document.getElementById("dry-form");
// Pairs of code and word, in the order in which people expect them.
const CHOICES = {
  modalities: new Map(known.modalities),
  priorities: new Map(known.priorities),
  encounters: new Map(known.encounters),
  weekdays: new Map(known.weekdays),
  body_parts: new Map(known.body_parts),
  clinics: new Map(known.clinics.map((org) => [org.code, org.name])),
};
let rules = structuredClone(known.plan.rules);
let number = known.number;
let editing = -1;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// --- the draft ---

function plan() {
  const answer = {};
  for (const input of planForm.querySelectorAll("[data-answer]")) answer[input.dataset.answer] = Number(input.value);
  const shares = {};
  for (const input of planForm.querySelectorAll("[data-share]")) {
    const weight = Number(input.value);
    if (weight !== 1) shares[input.dataset.share] = weight;
  }
  const balance = { automatic: document.getElementById("b-automatic").checked };
  for (const input of planForm.querySelectorAll("[data-balance]")) balance[input.dataset.balance] = Number(input.value);
  return {
    rules,
    emergency_to_all: planForm.elements.emergency_to_all.checked,
    answer_minutes: answer,
    share_hours: Number(planForm.elements.share_hours.value),
    pool_shares: shares,
    balance,
  };
}

function fill(from) {
  rules = structuredClone(from.rules);
  planForm.elements.emergency_to_all.checked = from.emergency_to_all;
  planForm.elements.share_hours.value = from.share_hours;
  for (const input of planForm.querySelectorAll("[data-answer]")) input.value = from.answer_minutes[input.dataset.answer];
  for (const input of planForm.querySelectorAll("[data-share]")) input.value = from.pool_shares[input.dataset.share] ?? 1;
  for (const input of planForm.querySelectorAll("[data-balance]")) input.value = from.balance[input.dataset.balance];
  document.getElementById("b-automatic").checked = from.balance.automatic;
  draw();
}

let saved = "";
const isChanged = () => JSON.stringify(plan()) !== saved;

function settle() {
  saved = JSON.stringify(plan());
  showChanged();
}

function showChanged() {
  document.getElementById("unsaved").hidden = !isChanged();
}

// --- the table ---

const names = (values, words) => values.map((value) => words.get(String(value)) ?? value).join(t("、"));

function conditions(rule) {
  const said = [];
  if (rule.clinics.length > 3) said.push(t("{n} 家申请机构", { n: rule.clinics.length }));
  else if (rule.clinics.length) said.push(names(rule.clinics, CHOICES.clinics));
  for (const kind of ["priorities", "encounters", "modalities", "body_parts"]) {
    if (rule[kind].length) said.push(names(rule[kind], CHOICES[kind]));
  }
  if (rule.weekdays.length) said.push(names(rule.weekdays, CHOICES.weekdays));
  if (rule.start) said.push(rule.end < rule.start ? t("{start}–次日 {end}", rule) : `${rule.start}–${rule.end}`);
  return said;
}

function shares(rule) {
  const whole = rule.targets.reduce((sum, target) => sum + target.weight, 0);
  return rule.targets.map((target) => {
    const name = orgs.get(target.hospital) ?? target.hospital;
    if (target.weight === 0) return t("{name}(备用)", { name });
    return rule.targets.length > 1 ? `${name} ${Math.round((100 * target.weight) / whole)} %` : name;
  });
}

function draw() {
  table.replaceChildren(
    ...rules.map((rule, place) => {
      const chips = conditions(rule).map((text) => element("span", { class: "badge badge--grey" }, text));
      if (chips.length === 0) chips.push(element("span", { class: "muted" }, t("所有检查")));
      const up = element("button", { type: "button", class: "btn btn--sm btn--ghost", "data-up": place, disabled: place === 0, "aria-label": t("上移") }, "↑");
      const down = element(
        "button",
        { type: "button", class: "btn btn--sm btn--ghost", "data-down": place, disabled: place === rules.length - 1, "aria-label": t("下移") },
        "↓",
      );
      const name = element("button", { type: "button", class: "linklike strong", "data-edit": place }, rule.name);
      const answer = rule.answer_minutes === null ? t("按总设置") : rule.answer_minutes === 0 ? t("不转") : t("{n} 分钟", { n: rule.answer_minutes });
      return element(
        "tr",
        { class: rule.active ? "" : "is-muted" },
        element("td", { class: "nowrap" }, `${place + 1} `, up, down),
        element("td", {}, name, ...(rule.active ? [] : [" ", element("span", { class: "badge badge--grey" }, t("未启用"))])),
        element("td", { class: "chips" }, ...chips),
        element("td", {}, ...shares(rule).map((text) => element("div", {}, text))),
        element("td", { class: "nowrap muted" }, answer),
        element("td", { class: "right" }, element("button", { type: "button", class: "btn btn--sm", "data-edit": place }, t("修改"))),
      );
    }),
  );
  document.getElementById("no-rules").hidden = rules.length > 0;
  showChanged();
}

table.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { up, down, edit } = button.dataset;
  if (edit !== undefined) open(Number(edit));
  else {
    const from = Number(up ?? down);
    const to = from + (up === undefined ? 1 : -1);
    [rules[from], rules[to]] = [rules[to], rules[from]];
    draw();
    table.querySelector(`[data-${up === undefined ? "down" : "up"}="${to}"]`)?.focus();
  }
});

// --- one rule ---

for (const [name, words] of Object.entries(CHOICES)) {
  const box = ruleForm.querySelector(`[data-choices="${name}"]`);
  for (const [value, text] of words) {
    const input = element("input", { type: "checkbox", name, value });
    box.append(element("label", { class: "check" }, input, " ", element("span", {}, text)));
  }
}
for (const org of known.hospitals) {
  const box = element("input", { type: "checkbox", "data-target": org.code });
  const weight = element("input", { class: "input input--auto", type: "number", min: 0, max: 1000, step: 1, value: 1, "data-weight": org.code, "aria-label": t("{name}的权重", { name: org.name }) });
  document
    .getElementById("r-targets")
    .append(element("div", { class: "target" }, element("label", { class: "check" }, box, " ", element("span", {}, org.name)), weight));
}

const field = (id) => document.getElementById(id);

function open(place) {
  editing = place;
  const rule = rules[place] ?? {
    name: "", active: true, clinics: [], modalities: [], body_parts: [], priorities: [], encounters: [], weekdays: [],
    start: "", end: "", targets: [], agreed_only: false, answer_minutes: null,
  };
  clear(ruleForm);
  field("r-name").value = rule.name;
  field("r-active").checked = rule.active;
  field("r-start").value = rule.start;
  field("r-end").value = rule.end;
  field("r-agreed").checked = rule.agreed_only;
  field("r-answer").value = rule.answer_minutes ?? "";
  for (const name of Object.keys(CHOICES)) {
    for (const input of ruleForm.querySelectorAll(`input[name="${name}"]`)) input.checked = rule[name].map(String).includes(input.value);
  }
  for (const input of ruleForm.querySelectorAll("[data-target]")) {
    const target = rule.targets.find((one) => one.hospital === input.dataset.target);
    input.checked = Boolean(target);
    ruleForm.querySelector(`[data-weight="${CSS.escape(input.dataset.target)}"]`).value = target?.weight ?? 1;
  }
  ruleForm.querySelector("details").open = rule.body_parts.length > 0 || rule.clinics.length > 0;
  field("r-delete").hidden = place >= rules.length;
  dialog.showModal();
  field("r-name").focus();
}

function gathered() {
  const chosen = (name) => [...ruleForm.querySelectorAll(`input[name="${name}"]:checked`)].map((input) => input.value);
  const answer = field("r-answer").value.trim();
  return {
    key: rules[editing]?.key ?? freshKey(),
    name: field("r-name").value.trim(),
    active: field("r-active").checked,
    clinics: chosen("clinics"),
    modalities: chosen("modalities"),
    body_parts: chosen("body_parts"),
    priorities: chosen("priorities"),
    encounters: chosen("encounters"),
    weekdays: chosen("weekdays").map(Number),
    start: field("r-start").value,
    end: field("r-end").value,
    targets: [...ruleForm.querySelectorAll("[data-target]:checked")].map((input) => ({
      hospital: input.dataset.target,
      weight: Number(ruleForm.querySelector(`[data-weight="${CSS.escape(input.dataset.target)}"]`).value),
    })),
    agreed_only: field("r-agreed").checked,
    answer_minutes: answer === "" ? null : Number(answer),
  };
}

function freshKey() {
  let serial = rules.length + 1;
  while (rules.some((rule) => rule.key === `r${serial}`)) serial += 1;
  return `r${serial}`;
}

ruleForm.addEventListener("submit", (event) => {
  event.preventDefault();
  clear(ruleForm);
  const rule = gathered();
  const wrong = {};
  if (!rule.name) wrong.name = t("请填写名称");
  if (rule.targets.length === 0) wrong.targets = t("请至少选择一家医院");
  if (Boolean(rule.start) !== Boolean(rule.end)) wrong.start = t("起止时间要么都填,要么都不填");
  if (Object.keys(wrong).length) {
    show(ruleForm, wrong);
    return;
  }
  rules[editing] = rule;
  dialog.close();
  draw();
});
field("r-delete").addEventListener("click", async () => {
  const { name } = rules[editing];
  dialog.close();
  if (await ask(t("删除规则“{name}”?保存后生效。", { name }), { danger: true, yes: t("删除") })) {
    rules.splice(editing, 1);
    draw();
  }
});
document.getElementById("add-rule").addEventListener("click", () => open(rules.length));

// --- errors beside their fields ---

function clear(form) {
  for (const note of form.querySelectorAll(".field-error")) note.remove();
  for (const box of form.querySelectorAll(".has-error")) box.classList.remove("has-error");
}

function show(form, fields) {
  let first = null;
  for (const [name, text] of Object.entries(fields)) {
    const box = form.querySelector(`[data-field="${CSS.escape(name)}"]`);
    if (!box) continue;
    box.classList.add("has-error");
    box.append(element("div", { class: "field-error", role: "alert" }, text));
    first ??= box.querySelector("input, select");
  }
  first?.focus();
  return first !== null;
}

function refuse(form, error) {
  if (!(error instanceof ApiError)) throw error;
  const fields = error.problem?.fields ?? {};
  // What is wrong with a rule is said where the rule is edited.
  const [name, text] = Object.entries(fields).find(([one]) => /^rules\.\d+\./.test(one)) ?? [];
  if (name) {
    const [, place, ...rest] = name.split(".");
    open(Number(place));
    show(ruleForm, { [rest[0]]: text });
    toast(error.message, "bad");
  } else if (!show(form, fields)) toast(error.message, "bad");
}

// --- saving, versions ---

planForm.addEventListener("input", showChanged);
planForm.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("save-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  clear(planForm);
  const note = document.getElementById("plan-note");
  const button = document.getElementById("save-plan");
  button.disabled = true;
  try {
    const answer = await put("/api/routing/plan", { plan: plan(), based_on: number, note: note.value });
    ({ number } = answer);
    document.getElementById("plan-state").textContent = t("第 {n} 版", { n: number });
    note.value = "";
    fill(answer.plan);
    settle();
    toast(t("已保存为第 {n} 版", { n: number }), "ok");
  } catch (error) {
    refuse(planForm, error);
  } finally {
    button.disabled = false;
  }
});

document.getElementById("versions").addEventListener("click", load);
// The list is fetched anew when somebody saves: its element is another one then.
document.addEventListener("htmx:afterSettle", () => {
  const list = document.getElementById("versions");
  list?.removeEventListener("click", load);
  list?.addEventListener("click", load);
});
async function load(event) {
  const button = event.target.closest("[data-restore]");
  if (!button) return;
  const answer = await get(`/api/routing/plan/${button.dataset.restore}`);
  fill(answer.plan);
  document.getElementById("plan-note").value = t("恢复第 {n} 版", { n: answer.number });
  toast(t("已载入第 {n} 版,保存后生效", { n: answer.number }), "info");
}

document.getElementById("export-plan").addEventListener("click", () => {
  const link = element("a", { download: "routing.json", href: URL.createObjectURL(new Blob([JSON.stringify(plan(), null, 1)], { type: "application/json" })) });
  link.click();
  URL.revokeObjectURL(link.href);
});
document.getElementById("import-plan").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const given = JSON.parse(await file.text());
    const usual = known.plan;
    fill({
      ...usual,
      ...given,
      answer_minutes: { ...usual.answer_minutes, ...given.answer_minutes },
      pool_shares: given.pool_shares ?? {},
      balance: { ...usual.balance, ...given.balance },
    });
    toast(t("已读入,检查后保存"), "info");
  } catch {
    toast(t("这不是导出的规则文件"), "bad");
  }
});

window.addEventListener("beforeunload", (event) => {
  if (isChanged()) event.preventDefault();
});

// --- trying out ---

dryForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  clear(dryForm);
  const values = Object.fromEntries(new FormData(dryForm));
  const body = {
    accession: values.accession ?? "",
    clinic: values.clinic ?? "",
    modality: values.modality,
    body_parts: values.body_part ? [values.body_part] : [],
    priority: values.priority,
    encounter: values.encounter,
    at: values.at,
    retake_by: values.retake_by,
    plan: plan(),
  };
  const result = document.getElementById("dry-result");
  try {
    const found = await post("/api/routing/dry-run", body);
    const where = found.hospital
      ? t("去:{name}", { name: found.name })
      : found.offered.length
        ? t("同时发给 {n} 家值班医院", { n: found.offered.length })
        : t("进入共享池");
    const lines = found.why.map((text) => element("li", {}, text));
    if (found.answer_minutes) lines.push(element("li", { class: "muted" }, t("{n} 分钟无人应答,再问下一家", { n: found.answer_minutes })));
    result.replaceChildren(element("div", { class: "dry-answer" }, element("div", { class: "dry-where" }, where), element("ol", { class: "dry-why" }, ...lines)));
  } catch (error) {
    result.replaceChildren();
    refuse(dryForm, error);
  }
});

draw();
settle();
