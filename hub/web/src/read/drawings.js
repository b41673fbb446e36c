// What is drawn and measured on the images: kept beside the draft, given back when the exam is opened again, and
// written into the report with the way back to its image.
import { ApiError, api, get, post } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { words } from "../viewing/words.js";
import { $, TEXTS } from "./page.js";

const AGAIN_AFTER = 5000;

const studyOf = ({ metadata }) => /\/studies\/([0-9.]+)\//.exec(metadata?.referencedImageId ?? "")?.[1] ?? "";

export function attach(page) {
  let kept = [];
  let of = "";
  let saving = null;
  let wanted = null;
  let timer = 0;

  // --- kept, and given back -----------------------------------------------------------------------------------------

  page.on("panel", () => {
    if (of !== page.exam.exam_id) of = "";
    drawLinks();
  });

  page.on("viewer:onOpened", async ([subject]) => {
    const about = subject.exam_id;
    try {
      if (of !== about) {
        const { drawings } = await get(`/api/exams/${about}/drawings`);
        if (about !== page.exam.exam_id) return;
        kept = drawings;
      }
      await page.viewer.restore(kept);
      if (about === page.exam.exam_id) of = about;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return;
      toast(t("影像上的标注没有取回;重新打开影像可再试"), "warn");
    }
  });

  page.on("viewer:onAnnotations", ([list, , loaded]) => {
    // Until those of this exam are given back, what the viewer holds is not all there is.
    if (of !== page.exam.exam_id || !page.writes()) return;
    const elsewhere = kept.filter((one) => !loaded.includes(studyOf(one)));
    const now = [...elsewhere, ...list];
    if (JSON.stringify(now) === JSON.stringify(kept)) return;
    kept = now;
    wanted = { about: of, drawings: now };
    send();
  });

  async function send() {
    clearTimeout(timer);
    if (saving) return saving;
    saving = (async () => {
      await page.claiming;
      while (wanted && wanted.about === page.exam.exam_id && page.writes()) {
        const { about, drawings } = wanted;
        wanted = null;
        try {
          await api(`/api/exams/${about}/drawings`, { method: "PUT", json: { lease: page.lease, drawings } });
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          if (error.status === 0 || error.status >= 500 || error.status === 429) {
            wanted ??= { about, drawings };
            timer = setTimeout(send, AGAIN_AFTER);
          } else if (error.code === "lease-lost") {
            page.lose(error.message);
          } else {
            toast(error.message, "warn");
          }
          return;
        }
      }
    })();
    try {
      await saving;
    } finally {
      saving = null;
    }
    return undefined;
  }

  // --- a text is linked with its image once the hub has the text ------------------------------------------------------

  let unlinked = [];
  let linking = null;

  function link() {
    linking ??= (async () => {
      while (unlinked.length > 0) {
        const [{ about, ...body }] = unlinked;
        if (about === page.exam.exam_id) {
          const answer = await post(`/api/exams/${about}/report/links`, { lease: page.lease, ...body });
          if (about === page.exam.exam_id) page.take(answer);
        }
        unlinked = unlinked.slice(1);
      }
    })().finally(() => {
      linking = null;
    });
    return linking;
  }

  page.on("saved", () => {
    link().catch((error) => {
      // Out of reach: with the next save. Refused: the words stand there without a way back.
      if (error.status >= 400 && error.status < 500) unlinked = unlinked.slice(1);
    });
  });

  for (const kind of ["submit", "sign"]) {
    page.before(kind, async () => {
      await send();
      if (unlinked.length === 0 || !(await page.save())) return;
      await link().catch(() => {});
    });
  }

  // --- into the text ------------------------------------------------------------------------------------------------

  const measure = () =>
    page.once(async () => {
      if (!page.writes()) return;
      const about = page.exam.exam_id;
      let found = null;
      try {
        found = await page.viewer.measure();
      } catch {
        toast(t("影像没有回应,没有取到测量值"), "warn");
        return;
      }
      if (about !== page.exam.exam_id) return;
      const text = found && words(found);
      if (!text) {
        toast(t("影像上没有可以写入的测量;先画一条长度、一个区域或一个角"), "warn");
        return;
      }
      const own = page.exam.images.studies.includes(found.study);
      const label = own ? text : t("{text}[既往影像]", { text });
      if (!page.insert(label)) return;
      const { study, series, sop, frame, drawing } = found;
      unlinked.push({ about, kind: "measurement", label, study, series, sop, frame, annotation: drawing });
      toast(t("已写入 {text}", { text: label }), "ok", 2);
    });

  page.act("measure", measure);
  page.key("Alt+l", t("把测量值写入报告"), measure);

  // --- and back to the image ----------------------------------------------------------------------------------------

  const links = () => page.version?.links ?? page.exam.version?.links ?? [];
  const standing = () => links().filter(({ label }) => TEXTS.some((name) => textOf(name).includes(label)));
  const textOf = (name) => $(name)?.value ?? page.version?.[name] ?? "";

  async function jump(link) {
    const reference = {
      sop: link.sop ?? link.sop_uid,
      frame: link.frame ?? 1,
      uid: link.annotation?.annotationUID ?? "",
      drawing: link.annotation ?? null,
    };
    try {
      await page.viewer.showImage(reference);
    } catch {
      const study = link.study ?? link.study_uid;
      const prior = page.exam.priors.find(({ studies }) => studies.includes(study));
      if (prior) toast(t("这是既往影像上的测量,请先与 {what} 对比", { what: prior.title }), "info");
      else toast(t("没有找到这幅影像"), "warn");
    }
  }

  function drawLinks() {
    const box = $("measure-links");
    if (!box) return;
    const found = standing();
    box.hidden = found.length === 0;
    box.replaceChildren(
      ...found.map((link) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "read-link";
        button.textContent = link.label;
        button.title = t("在影像中显示");
        button.addEventListener("click", () => jump(link));
        return button;
      }),
    );
  }

  /** The reference in a text around a place, if it is one. */
  function linkAt(text, place) {
    for (const link of standing()) {
      for (let at = text.indexOf(link.label); at >= 0; at = text.indexOf(link.label, at + 1)) {
        if (at <= place && place <= at + link.label.length) return link;
      }
    }
    return null;
  }

  function jumpHere(element) {
    const link = TEXTS.includes(element?.name) ? linkAt(element.value, element.selectionStart) : null;
    if (link) jump(link);
    return Boolean(link);
  }

  page.panel.addEventListener("click", ({ target, ctrlKey, metaKey }) => {
    if (ctrlKey || metaKey) jumpHere(target);
  });
  page.key("Alt+g", t("到光标处测量所在的影像"), () => {
    if (!jumpHere(document.activeElement)) toast(t("光标不在测量值上"), "info", 2);
  });
  for (const event of ["taken", "saved", "change"]) page.on(event, drawLinks);
}
