// The images of one exam in a frame, under a bar that names them: in the report's page, or in a window of their own.
import { t } from "../i18n.js";
import { connectViewer, viewerSearch } from "../viewer.js";

/**
 * @typedef {object} Subject whose images these are
 * @property {string} exam_id
 * @property {string} accession
 * @property {string} patient name, sex and age
 * @property {string} exam what was examined
 * @property {string} county_number the patient's number in the county, which the images carry
 * @property {string[]} studies StudyInstanceUIDs of the exam
 * @property {{studies: string[], title: string}[]} priors
 */

/**
 * @param {HTMLElement} root holds #viewer, #viewer-cover, #viewer-who, #viewer-prior, #viewer-compare and [data-layout]
 * @param {object} handlers those of connectViewer, and `onOpened(subject)` (the studies stand in the viewports),
 *   `onHung({studies, options, compared})` (asked to hang otherwise), `onState()`
 */
export function createStage(root, handlers = {}) {
  const $ = (id) => root.querySelector(`#${id}`);
  const frame = $("viewer");
  let subject = null;
  let opened = "";
  let opening = false;
  let wrong = false;
  let shown = [];
  let seen = "";
  let last = null;

  const viewer = connectViewer(frame, {
    ...handlers,
    onStudy(message) {
      const { patient, stacks, volume } = message;
      shown = message.shown;
      seen = patient.id;
      // A layout that this study cannot fill is not offered.
      const own = subject !== null && shown.length > 0 && shown.every((study) => subject.studies.includes(study));
      if (own) {
        layoutButton("hubXray").disabled = stacks < 2;
        layoutButton("mpr").disabled = !volume;
      }
      // The images carry the county's number of their patient; beside another's report nobody must see them.
      if (subject !== null && opened !== "" && !opening) {
        const other = patient.id !== "" && patient.id !== subject.county_number;
        if (other) cover(t("影像与报告不是同一患者,已隐藏"), true);
        wrong = other;
      }
      handlers.onStudy?.(message);
      handlers.onState?.();
    },
  });

  const layoutButton = (name) => root.querySelector(`[data-layout="${name}"]`);

  /** Over the images: what is being waited for, or what went wrong. Empty: the images. */
  function cover(text, again = false) {
    const box = $("viewer-cover");
    box.hidden = text === "";
    box.querySelector("[data-cover]").textContent = text;
    box.querySelector("[data-view=again]").hidden = !again;
    // The last patient's images must not stand beside this one's report.
    frame.style.visibility = text === "" ? "" : "hidden";
  }

  /** Whose images these are, and how they hang. */
  function drawBar(layout, compared) {
    $("viewer-who").textContent = `${subject.patient} · ${subject.exam}`;
    $("viewer-prior").textContent = compared ? t("右侧:{what}", { what: compared }) : "";
    for (const button of root.querySelectorAll("[data-layout]")) {
      button.setAttribute("aria-pressed", String(button.dataset.layout === layout));
      button.disabled = subject.studies.length === 0;
    }
    const priors = $("viewer-compare");
    priors.hidden = subject.priors.length === 0 || subject.studies.length === 0;
    priors.replaceChildren(
      new Option(t("与既往对比…"), ""),
      ...subject.priors.map(({ studies, title }) => new Option(title, studies[0], false, compared === title)),
    );
  }

  /**
   * Hang studies of a subject.
   * @param {Subject} whose
   * @param {string[]} studies
   * @param {object} options as viewerSearch
   * @param {string} compared title of the prior beside it
   */
  async function show(whose, studies, options = {}, compared = "") {
    const key = JSON.stringify([whose.exam_id, studies, options]);
    subject = whose;
    drawBar(options.hangingProtocolId ?? "", compared);
    if (studies.length > 0 && key === opened) return;
    opened = key;
    wrong = false;
    last = [studies, options, compared];
    handlers.onHung?.({ studies, options, compared });
    if (studies.length === 0) {
      shown = [];
      seen = "";
      opening = false;
      cover(t("这项检查还没有可以显示的影像"));
      handlers.onState?.();
      return;
    }
    const search = viewerSearch(studies, options);
    const adopted = frame.dataset.search === search && frame.hasAttribute("src");
    delete frame.dataset.search;
    opening = true;
    cover(t("正在打开影像…"));
    handlers.onState?.();
    try {
      const found = await (adopted ? viewer.adopt(studies) : viewer.open(studies, options));
      if (found === null || opened !== key) return;
      opening = false;
      shown = found;
      // What the header of these images says; what was told while the studies still changed is not asked.
      wrong = await isOther(key);
      if (opened !== key) return;
      cover(wrong ? t("影像与报告不是同一患者,已隐藏") : "", wrong);
      handlers.onState?.();
      if (!wrong) handlers.onOpened?.(subject);
    } catch {
      if (opened !== key) return;
      opening = false;
      cover(t("影像没有打开"), true);
      handlers.onState?.();
    }
  }

  async function isOther(key) {
    const patient = await viewer.patient().catch(() => "");
    if (opened === key) seen = patient;
    return opened === key && patient !== "" && patient !== subject.county_number;
  }

  const hang = (options, compared = "", studies = subject.studies) => show(subject, studies, options, compared);
  const compare = (study, title) => hang({ hangingProtocolId: "hubCompare" }, title, [subject.studies[0], study]);

  $("viewer-compare").addEventListener("change", ({ target }) => {
    const chosen = subject.priors.find(({ studies }) => studies[0] === target.value);
    if (chosen) compare(target.value, chosen.title);
    else hang({});
  });
  for (const button of root.querySelectorAll("[data-layout]")) {
    button.addEventListener("click", () => subject && hang({ hangingProtocolId: button.dataset.layout }));
  }
  root.querySelector("[data-view=again]").addEventListener("click", () => {
    if (!last || !subject) return;
    empty();
    show(subject, ...last);
  });

  function empty() {
    opened = "";
    opening = false;
    shown = [];
    seen = "";
    delete frame.dataset.search;
    if (frame.getAttribute("src")) frame.src = "about:blank";
    viewer.forget();
  }

  return {
    viewer,
    frame,
    show,
    compare,
    /** No images, and none of the frame's memory of them; a word why. */
    clear(text = "") {
      empty();
      subject = null;
      last = null;
      wrong = false;
      $("viewer-who").textContent = "";
      $("viewer-prior").textContent = "";
      $("viewer-compare").hidden = true;
      for (const button of root.querySelectorAll("[data-layout]")) button.disabled = true;
      cover(text || t("没有影像"));
      handlers.onState?.();
    },
    /** What stands here, in plain values. */
    state: () => ({
      exam_id: subject?.exam_id ?? "",
      who: $("viewer-who").textContent,
      opening,
      wrong,
      covered: !$("viewer-cover").hidden,
      shown,
      patient: seen,
    }),
    last: () => last,
  };
}
