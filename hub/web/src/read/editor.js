// The form: its fields by key, templates.
import { post } from "../api.js";
import { t } from "../i18n.js";
import { ask, toast } from "../ui.js";
import { readable } from "./drafts.js";
import { $, TEXTS } from "./page.js";

export function attach(page) {
  let chosen = null;
  const offered = () => page.exam.editor.templates;
  const partName = (part) => page.exam.editor.body_parts[part] ?? part;

  /** Whom a template is for, where it is not for everybody. */
  function whom({ sex, age_from, age_to }) {
    const years = age_from === null && age_to === null ? "" : t("{from}–{to} 岁", { from: age_from ?? 0, to: age_to ?? "" });
    return [{ M: t("男"), F: t("女") }[sex], years].filter(Boolean).join(" ");
  }

  function rows() {
    const wanted = $("template-search").value.trim().toLowerCase();
    const list = $("template-list");
    const words = (one) => `${one.name} ${one.initials} ${partName(one.body_part)} ${one.findings} ${one.impression}`.toLowerCase();
    // What is called so comes before what only says so.
    const called = (one) => `${one.name} ${one.initials}`.toLowerCase().includes(wanted);
    const found = offered().filter((one) => words(one).includes(wanted));
    const fitting = [...found.filter(called), ...found.filter((one) => !called(one))];
    if (!fitting.includes(chosen)) chosen = fitting[0] ?? null;
    list.replaceChildren(
      ...fitting.map((one) => {
        const item = document.createElement("li");
        item.setAttribute("role", "option");
        item.setAttribute("aria-selected", String(one === chosen));
        const name = document.createElement("div");
        name.textContent = one.name;
        const where = document.createElement("small");
        const scope = { county: t("县级"), hospital: t("本院"), own: t("我的") }[one.scope];
        where.textContent = [partName(one.body_part), whom(one), scope].filter(Boolean).join(" · ");
        item.classList.toggle("is-other", !one.fits);
        item.append(name, where);
        item.addEventListener("click", () => {
          chosen = one;
          rows();
        });
        item.addEventListener("dblclick", () => use([one]));
        return item;
      }),
    );
    list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    $("template-preview").textContent = chosen ? readable(chosen) : "";
  }

  function step(by) {
    const all = [...$("template-list").children];
    const at = all.findIndex((item) => item.getAttribute("aria-selected") === "true");
    all[Math.min(all.length - 1, Math.max(0, at + by))]?.click();
  }

  const fromTemplate = (name, text) => offered().some((one) => (one[name] ?? "").trim() === text.trim());

  /** Fill the form with a template, or with several: an exam of two body parts has a normal report of each. */
  async function use(templates, { append = false } = {}) {
    const list = templates.filter(Boolean);
    if (list.length === 0 || !page.writes()) return;
    const before = page.collect();
    const written = TEXTS.some((name) => name !== "technique" && before[name].trim() && !fromTemplate(name, before[name]));
    if (written && !append) {
      const about = page.exam.exam_id;
      const agreed = await ask(t("用模板“{name}”替换已写的文字吗?", { name: list.map((one) => one.name).join(t("、")) }), { yes: t("替换") });
      if (!agreed || about !== page.exam.exam_id) return;
    }
    $("template-dialog").close();
    for (const name of TEXTS) {
      const text = [...new Set(list.map((one) => one[name]).filter(Boolean))].join("\n");
      if (name === "comparison" || !text) continue;
      const now = page.text.get(name).trim();
      page.text.set(name, append && now && name !== "technique" ? `${now}\n${text}` : text);
    }
    page.setPositive(list.some((one) => !one.normal));
    if (!page.nextField()) $("findings").focus();
  }

  function open() {
    if (!page.writes()) return;
    $("template-search").value = "";
    chosen = null;
    rows();
    $("template-dialog").showModal();
    $("template-search").focus();
  }

  function normal() {
    if (!page.writes()) return;
    const found = page.exam.editor.normals.map((id) => offered().find((one) => one.id === id));
    if (found.length > 0) use(found);
    else toast(t("没有适合这类检查和患者的正常模板"), "info");
  }

  async function save() {
    const name = await ask(t("把检查技术、所见、意见和建议存为模板"), { title: t("存为我的模板"), input: t("模板名称") });
    if (!name?.trim()) return;
    const { technique, findings, impression, recommendation } = page.collect();
    const body = { modality: page.exam.modality, body_part: page.exam.main_part, name: name.trim(), technique, findings, impression, recommendation };
    offered().unshift({ ...(await post("/api/templates", body)), fits: true, initials: "" });
    rows();
    toast(t("已存为我的模板"), "ok");
  }

  $("template-search").addEventListener("input", rows);
  $("template-dialog").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      step(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter" && event.target === $("template-search") && !event.isComposing) {
      event.preventDefault();
      use([chosen], { append: event.ctrlKey });
    }
  });
  $("template-dialog").addEventListener("click", (event) => {
    const how = event.target.closest("[data-template]")?.dataset.template;
    if (how) use([chosen], { append: how === "append" });
  });
  $("template-save").addEventListener("click", () => page.once(save));

  page.act("normal", normal);
  page.act("templates", open);
  page.key("Alt+t", t("报告模板"), open);
  page.key("Alt+0", t("正常模板"), normal);

  const to = (name) => () => {
    $("tab-report").click();
    $(name)?.focus();
  };
  page.key("Alt+1", t("到检查所见"), to("findings"));
  page.key("Alt+2", t("到诊断意见"), to("impression"));
  page.key("Alt+3", t("到建议"), to("recommendation"));
}
