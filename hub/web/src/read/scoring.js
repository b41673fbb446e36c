// The quality of the images: good ones in one key, others in a dialog; waste leads to sending them back.
import { put } from "../api.js";
import { showFields, texts, ticked } from "../forms.js";
import { t } from "../i18n.js";
import { ask, toast, typing } from "../ui.js";
import { $ } from "./page.js";

export function attach(page) {
  const dialog = $("score-dialog");
  const form = $("score-form");
  const place = (name) => form.querySelector(`[data-score-${name}]`);
  let examples = [];

  function option(type, name, value, text, title, checked) {
    const label = document.createElement("label");
    label.className = type === "radio" ? (name === "grade" ? "segment" : "check") : "pick";
    const input = document.createElement("input");
    Object.assign(input, { type, name, value, checked });
    const words = document.createElement("span");
    words.textContent = text;
    if (title) label.title = title;
    label.append(input, words);
    return label;
  }

  function told() {
    place("examples").textContent = examples.length ? t("{n} 幅示例", { n: examples.length }) : "";
  }

  function open() {
    const score = page.exam.scoring;
    if (!$("score-open")) return;
    place("grades").replaceChildren(
      ...Object.entries(score.grades).map(([code, [name, note]]) => option("radio", "grade", code, name, note, code === score.grade)),
    );
    place("artefacts").replaceChildren(
      ...score.artefacts.map(([code, name]) => option("radio", "artefact", code, name, "", code === score.artefact)),
    );
    place("reasons").replaceChildren(
      ...score.options.map(([code, name, advice]) => option("checkbox", "reasons", code, name, advice, score.reasons.includes(code))),
    );
    form.elements.note.value = score.note;
    examples = [...score.examples];
    told();
    dialog.showModal();
    (form.querySelector("[name=grade]:checked") ?? form.querySelector("[name=grade]")).focus();
  }

  async function save(body) {
    const said = await put(`/api/exams/${page.exam.exam_id}/image-score`, { ...body, number: page.exam.scoring.number });
    const { grade, artefact, reasons, note, number } = said.current;
    Object.assign(page.exam.scoring, { grade, artefact, reasons, note, number, examples: said.current.examples });
    const shown = document.createElement("span");
    shown.className = `grade grade--${grade}`;
    shown.textContent = page.exam.scoring.grades[grade][0];
    $("score-open")?.replaceChildren(t("影像"), " ", shown);
    return said;
  }

  const good = () =>
    page.once(async () => {
      if (!$("score-open")) return;
      await save({ grade: "A", artefact: "none" });
      toast(t("影像评为甲级"), "ok");
    });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { grade = "", artefact = "none", note } = texts(form);
    const body = { grade, artefact, note, reasons: ticked(form, "reasons"), examples };
    page.once(async () => {
      let said;
      try {
        said = await save(body);
      } catch (error) {
        showFields(form, error);
        return;
      }
      dialog.close();
      if (said.retake_suggested && page.writes()) {
        const back = await ask(t("影像评为废片,不能诊断。现在退回卫生院重拍?"), { title: t("退回重拍?"), yes: t("退回重拍"), no: t("先不退回") });
        if (back) page.do("retake");
      } else toast(t("评分已保存"), "ok");
    });
  });

  dialog.addEventListener("keydown", (event) => {
    if (typing(event.target) && event.target.matches("[name=note]")) return;
    const grade = [...form.querySelectorAll("[name=grade]")][Number(event.key) - 1];
    if (grade) {
      grade.checked = true;
      grade.focus();
      event.preventDefault();
    }
  });

  place("example").addEventListener("click", async () => {
    const found = await page.viewer.capture();
    if (!found?.sop || examples.some((one) => one.sop_uid === found.sop)) return;
    examples.push({ sop_uid: found.sop, note: "" });
    told();
  });

  page.act("score", open);
  page.key("Alt+i", t("影像质量评分"), open);
  page.key("Alt+u", t("影像评为甲级"), good);
}
