// What is drawn and measured on the images: kept beside the draft, given back when the exam is opened again, and
// written into the report with the way back to its image.
import { ApiError, api, get, post } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { drawn } from "../viewing/drawn.js";
import { words } from "../viewing/words.js";
import { $, TEXTS } from "./page.js";

const AGAIN_AFTER = 5000;

const studyOf = ({ metadata }) => /\/studies\/([0-9.]+)\//.exec(metadata?.referencedImageId ?? "")?.[1] ?? "";

export function attach(page) {
  const me = crypto.randomUUID();
  /** What stands on the images here, by name; also on those that are not in the viewports. */
  let here = new Map();
  /** What the hub and this window agree on: name → what was drawn, and its revision. */
  let known = new Map();
  let of = "";
  let revision = 0;
  let saving = null;
  let timer = 0;
  // What the viewer told before it was brought up to date is older than what it was given.
  let syncing = false;
  let turn = Promise.resolve();
  const inTurn = (job) => {
    turn = turn.then(job, job);
    return turn;
  };

  // --- kept, and given back -----------------------------------------------------------------------------------------

  page.on("panel", () => {
    if (of !== page.exam.exam_id) of = "";
    drawLinks();
  });

  page.on("viewer:onOpened", async ([subject]) => {
    const about = subject.exam_id;
    try {
      if (of !== about) {
        const answer = await get(`/api/exams/${about}/drawings`);
        if (about !== page.exam.exam_id) return;
        here = new Map(answer.drawings.map((one) => [one.annotationUID, one]));
        known = new Map([...here].map(([uid, one]) => [uid, { text: drawn(one), revision: answer.revisions[uid] }]));
        revision = answer.revision;
      }
      await page.viewer.restore([...here.values()]);
      if (about === page.exam.exam_id) of = about;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return;
      toast(t("影像上的标注没有取回;重新打开影像可再试"), "warn");
    }
  });

  page.on("viewer:onAnnotations", ([list, , loaded]) => {
    // Until those of this exam are given back, what the viewer holds is not all there is.
    if (of !== page.exam.exam_id || !page.writes() || syncing) return;
    const elsewhere = [...here].filter(([, one]) => !loaded.includes(studyOf(one)));
    here = new Map([...elsewhere, ...list.map((one) => [one.annotationUID, one])]);
    send();
  });

  /** What was changed here since the hub and this window agreed. */
  function pending() {
    const changed = [...here].filter(([uid, one]) => known.get(uid)?.text !== drawn(one));
    const removed = [...known].filter(([uid]) => !here.has(uid));
    return {
      changed: changed.map(([uid, drawing]) => ({ revision: known.get(uid)?.revision ?? 0, drawing })),
      removed: removed.map(([uid, one]) => ({ uid, revision: one.revision })),
    };
  }

  /**
   * Bring the images to what the hub has. What was changed here and is on no way yet stays, and is sent with the
   * revision that it was drawn upon; so does what the viewer has not told of yet.
   */
  async function bring(answer, sent = { changed: [], removed: [] }) {
    revision = answer.revision;
    const given = new Map(sent.changed.map(({ drawing }) => [drawing.annotationUID, drawn(drawing)]));
    const gone = new Set(sent.removed.map(({ uid }) => uid));
    const standing = new Map(answer.drawings.map((one) => [one.annotationUID, one]));
    const agree = (uid) => known.set(uid, { text: drawn(standing.get(uid)), revision: answer.revisions[uid] });

    /** Drawings that stand otherwise here, and the names of those that stand here alone. */
    function different() {
      const put = [];
      const drop = [];
      for (const [uid, one] of standing) {
        const text = drawn(one);
        const mine = here.has(uid) ? drawn(here.get(uid)) : null;
        const old = mine === null ? !known.has(uid) || gone.has(uid) : [text, known.get(uid)?.text, given.get(uid)].includes(mine);
        if (!old) continue;
        if (mine === text) agree(uid);
        else put.push(one);
      }
      for (const [uid, { text }] of [...known]) {
        if (standing.has(uid)) continue;
        if (!here.has(uid)) known.delete(uid);
        else if (drawn(here.get(uid)) === text) drop.push(uid);
      }
      return { put, drop };
    }

    const all = known;
    for (;;) {
      const { put, drop } = different();
      const names = [...put.map(({ annotationUID }) => annotationUID), ...drop];
      if (names.length === 0) return;
      const seen = Object.fromEntries(names.filter((uid) => here.has(uid)).map((uid) => [uid, drawn(here.get(uid))]));
      let left = [];
      syncing = true;
      try {
        left = await page.viewer.sync(put, drop, seen);
      } catch {
        // What does not stand on these images must not be taken for removed.
        of = "";
        toast(t("影像上的标注没有取回;重新打开影像可再试"), "warn");
        return;
      } finally {
        syncing = false;
      }
      if (known !== all || of !== page.exam.exam_id) return;
      const otherwise = new Map(left.map(({ uid, drawing }) => [uid, drawing]));
      for (const uid of names) {
        if (otherwise.get(uid)) {
          here.set(uid, otherwise.get(uid));
        } else if (otherwise.has(uid)) {
          here.delete(uid);
        } else if (standing.has(uid)) {
          here.set(uid, standing.get(uid));
          agree(uid);
        } else {
          here.delete(uid);
          known.delete(uid);
        }
      }
      if (left.length === 0) return;
    }
  }

  function tellConflicts(conflicts) {
    const count = (kind) => conflicts.filter((one) => one.kind === kind).length;
    const [both, stays, back] = ["both", "kept", "back"].map(count);
    if (both > 0) toast(t("另一个窗口也改了 {n} 处标注:两种画法都留在影像上,请删去不要的", { n: both }), "warn", 12);
    if (stays > 0) toast(t("{n} 处标注刚在另一个窗口改过,没有删除", { n: stays }), "warn", 12);
    if (back > 0) toast(t("{n} 处标注在另一个窗口删除过,因您改过而保留", { n: back }), "warn", 12);
  }

  async function send() {
    clearTimeout(timer);
    if (saving) return saving;
    saving = inTurn(async () => {
      await page.claiming;
      let before = "";
      while (of !== "" && of === page.exam.exam_id && page.writes()) {
        const about = of;
        const sent = pending();
        const text = JSON.stringify(sent);
        if (sent.changed.length + sent.removed.length === 0 || text === before) return;
        before = text;
        try {
          const answer = await api(`/api/exams/${about}/drawings`, { method: "PATCH", json: { lease: page.lease, window: me, ...sent } });
          if (about !== page.exam.exam_id || of !== about) return;
          tellConflicts(answer.conflicts);
          await bring(answer, sent);
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          if (error.status === 0 || error.status >= 500 || error.status === 429) {
            timer = setTimeout(send, AGAIN_AFTER);
          } else if (error.code === "lease-lost") {
            page.lose(error.message);
          } else {
            toast(error.message, "warn");
          }
          return;
        }
      }
    });
    try {
      await saving;
    } finally {
      saving = null;
    }
    return undefined;
  }

  // What another window has drawn appears here as well.
  document.addEventListener("hub:change", ({ detail: { topic, ref, data = {} } }) => {
    if (topic !== "draft" || data.event !== "drawings" || ref !== of || data.window === me || data.revision <= revision) return;
    inTurn(async () => {
      if (ref !== of || data.revision <= revision) return;
      const answer = await get(`/api/exams/${ref}/drawings`);
      if (ref === of && answer.revision > revision) await bring(answer);
    }).catch((error) => {
      if (!(error instanceof ApiError)) throw error;
    });
  });

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
