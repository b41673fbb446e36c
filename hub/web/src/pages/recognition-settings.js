// What the administrator keeps of mutual recognition: evaluations, days, what stands for what.
import { post, put } from "../api.js";
import { onSubmit, texts, ticked } from "../forms.js";
import { data, t } from "../i18n.js";
import { ask, toast } from "../ui.js";

const rules = data("rules-data");
const form = document.getElementById("rules");
const parted = new Set();

/** The table as it stands in the form: merged kinds give their parts to the other, parted ones fall into their parts. */
function kinds() {
  const found = new Map(rules.kinds.map((kind) => [kind.code, { ...kind, parts: [...kind.parts] }]));
  for (const kind of found.values()) kind.days = Number(form.querySelector(`[data-days="${kind.code}"]`).value);
  for (const select of form.querySelectorAll("[data-merge]")) {
    const kind = found.get(select.dataset.merge);
    const other = found.get(select.value);
    if (!kind || !other) continue;
    other.parts.push(...kind.parts);
    found.delete(kind.code);
  }
  for (const code of parted) {
    const kind = found.get(code);
    if (!kind) continue;
    found.delete(code);
    for (const part of kind.parts) {
      const own = `${kind.modality.toLowerCase()}_${part}`;
      found.set(own, { code: own, modality: kind.modality, parts: [part], days: kind.days });
    }
  }
  return [...found.values()];
}

const save = () => {
  const said = texts(form);
  return put("/api/recognition-rules", {
    minutes: Number(said.minutes),
    access_days: Number(said.access_days),
    marks: { national: said.mark_national, province: said.mark_province, county: said.mark_county },
    kinds: kinds(),
  });
};

onSubmit(form, save, () => location.reload());

form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-part]");
  if (!button) return;
  parted.add(button.dataset.part);
  button.disabled = true;
  toast(t("保存后拆开"), "info");
});

onSubmit(
  document.getElementById("evaluation"),
  (sent) => {
    const body = { ...texts(sent, ["org_id", "scope", "valid_from", "evidence"]), items: ticked(sent, "items") };
    if (sent.elements.valid_until.value) body.valid_until = sent.elements.valid_until.value;
    return post("/api/recognition-evaluations", body);
  },
  () => location.reload(),
);

document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-end]") : null;
  if (!button) return;
  if (!(await ask(t("停用后,今后的检查不再带这个标识;以前的检查保留。"), { title: t("停用这条评价?"), danger: true }))) return;
  await post(`/api/recognition-evaluations/${button.dataset.end}/end`, {});
  location.reload();
});
