// Flagging a critical value, which alarms the clinic at once; the call panel; those that run.
import { get, post } from "../api.js";
import { openPanel } from "../critical.js";
import { showFields } from "../forms.js";
import { t } from "../i18n.js";
import { $ } from "./page.js";

export function attach(page) {
  const flagDialog = $("critical-flag");
  const form = $("critical-flag-form");
  const callDialog = $("critical-dialog");
  let marked = false;
  let classes = null;

  function show(value) {
    marked = Boolean(value) || page.exam.critical.open.length > 0;
    $("critical")?.setAttribute("aria-pressed", String(marked));
  }
  // The mark of the report follows the procedure; without one it is what was saved.
  page.field("critical", { read: () => marked, write: show, norm: Boolean });

  async function fillClasses() {
    classes ??= (await get("/api/critical/classes")).classes;
    const select = $("critical-class");
    select.replaceChildren(new Option(t("请选择"), ""));
    for (const [national, label] of [
      [true, t("国家危急值")],
      [false, t("县增危急值")],
    ]) {
      const group = document.createElement("optgroup");
      group.label = label;
      group.append(...classes.filter((known) => known.national === national).map((known) => new Option(known.name, known.code)));
      select.append(group);
    }
  }

  async function call(id) {
    if (!callDialog.open) callDialog.showModal();
    await openPanel($("critical-place"), id);
  }

  /** Ask for the finding; `code` chooses the class, where a check has named it. */
  page.flagCritical = async (code = "") => {
    if (!page.exam.critical.may_flag) return;
    await fillClasses();
    form.reset();
    $("critical-class").value = code;
    $("critical-finding").value = page.text.get("impression").slice(0, 1000);
    $("critical-unmark").hidden = !marked || page.exam.critical.open.length > 0;
    flagDialog.showModal();
    $(code ? "critical-finding" : "critical-class").focus();
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter;
    if (button) button.disabled = true;
    try {
      const values = Object.fromEntries(new FormData(form));
      const answer = await post(`/api/exams/${page.exam.exam_id}/critical`, { ...values, minutes_ago: Number(values.minutes_ago) });
      flagDialog.close();
      await rows();
      await call(answer.id);
    } catch (error) {
      showFields(form, error);
    } finally {
      if (button) button.disabled = false;
    }
  });
  $("critical-unmark").addEventListener("click", () => {
    flagDialog.close();
    show(false);
    page.changed();
  });

  page.act("critical", () => (page.exam.critical.open.length ? call(page.exam.critical.open[0]) : page.flagCritical()));
  page.act("critical-more", () => page.flagCritical());
  page.act("critical-open", (button) => call(button.dataset.id));
  page.key("Alt+w", t("标记危急值,或打开它的通话与记录"), () => page.do("critical"));

  /** What runs, anew, without touching what is being written; the mark as the hub has it on the draft. */
  async function rows() {
    const id = page.exam.exam_id;
    const response = await fetch(`/critical/exams/${id}/rows`, { credentials: "same-origin" });
    if (!response.ok || response.redirected || id !== page.exam.exam_id) return;
    const place = $("critical-rows");
    place.outerHTML = await response.text();
    const { open, marked: now } = $("critical-rows").dataset;
    page.exam.critical.open = open ? open.split(" ") : [];
    if (page.writes()) show(now);
  }
  document.addEventListener("hub:change", ({ detail }) => {
    if (detail.topic === "critical" || detail.topic === "*") rows();
  });
}
