// Judging an exam's images on its page.
import { put } from "../api.js";
import { onSubmit, texts, ticked } from "../forms.js";
import { data, t } from "../i18n.js";

const form = document.getElementById("score-form");
const card = data("score-data");
const choice = form.querySelector("[data-example-choice]");
const shelf = form.querySelector("[data-examples]");
const numbers = new Map(card.images.map(([id, number, title]) => [id, `${title} ${number}`]));
let examples = [...card.examples];

choice.replaceChildren(
  ...card.images.map(([id]) => {
    const option = document.createElement("option");
    option.value = id;
    option.textContent = numbers.get(id);
    return option;
  }),
);

function draw() {
  shelf.replaceChildren(
    ...examples.map((example) => {
      const figure = document.createElement("figure");
      const image = document.createElement("img");
      image.src = `/clinic/exams/${card.exam}/pictures/image/${example.instance_id}`;
      image.alt = numbers.get(example.instance_id) ?? "";
      const note = document.createElement("input");
      note.className = "input";
      note.value = example.note;
      note.maxLength = 100;
      note.placeholder = t("哪里不好");
      note.setAttribute("aria-label", t("哪里不好"));
      note.addEventListener("input", () => (example.note = note.value));
      const away = document.createElement("button");
      away.type = "button";
      away.className = "btn btn--sm";
      away.textContent = t("去掉");
      away.addEventListener("click", () => {
        examples = examples.filter((one) => one !== example);
        draw();
      });
      figure.append(image, note, away);
      return figure;
    }),
  );
}

form.querySelector("[data-example-add]").addEventListener("click", () => {
  if (!choice.value || examples.some((one) => one.instance_id === choice.value)) return;
  examples.push({ instance_id: choice.value, note: "" });
  draw();
});

onSubmit(
  form,
  () => {
    const { grade = "", artefact = "none", note } = texts(form);
    return put(`/api/exams/${card.exam}/image-score`, {
      grade,
      artefact,
      note,
      reasons: ticked(form, "reasons"),
      examples,
      number: card.number,
    });
  },
  () => location.reload(),
);

draw();
