// The images of the exam: beside the report or in a window of their own, what they are opened with, and whether they
// are this exam's. Nothing is submitted or signed beside somebody else's.
import { fetchAhead } from "../ahead.js";
import { ApiError, post } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { createDesk } from "../viewing/desk.js";
import { $ } from "./page.js";

const WHY = {
  lost: () => t("影像窗口没有打开或没有回应"),
  other: (who) => (who ? t("影像窗口显示的是 {who}", { who }) : t("影像窗口显示的不是这项检查")),
  wrong: () => t("影像不是这位患者的"),
};
const HEARD = ["onMeasurements", "onAnnotations", "onOpened"];

export function attach(page) {
  let showing = "";
  let aheadTimer = 0;

  const desk = createDesk($("read"), {
    ...Object.fromEntries(HEARD.map((name) => [name, (...args) => page.emit(`viewer:${name}`, args)])),
    onUnauthorised() {
      toast(t("登录已失效,请重新登录;您的文字保存在本机"), "bad");
    },
    onTouched() {
      page.touch();
      ahead.pause();
    },
    onHung() {
      clearTimeout(aheadTimer);
      ahead.stop();
    },
    onOpened(subject) {
      aheadTimer = setTimeout(lookAhead, 2000);
      page.emit("viewer:onOpened", [subject]);
    },
    onPlace: drawPlace,
  });
  const ahead = fetchAhead(() => desk.idle().catch(() => false));
  page.viewer = desk;

  /** The exam's nearest earlier one, then the exam that will be next: their images, while this report is written. */
  async function lookAhead() {
    if (!page.writes() || navigator.connection?.saveData) return;
    const about = page.exam.exam_id;
    const prior = page.exam.priors[0]?.studies ?? [];
    try {
      const found = await post("/api/queue/ahead", page.nextBody({ without: about }));
      const wanted = [...new Set([...prior, ...found.studies])];
      if (about === page.exam.exam_id && wanted.length > 0) ahead.start(wanted);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  /** A prior's images on the right of the exam's. */
  page.compareImages = (study, title) => desk.compare(study, title);

  function subject() {
    const { exam_id, accession, patient, exam, county_number, priors, images } = page.exam;
    return { exam_id, accession, patient, exam, county_number, priors, studies: images.studies };
  }

  page.on("panel", () => {
    const { exam_id, images } = page.exam;
    drawPlace(desk.place());
    // What comes anew of the same exam leaves the images as the doctor has hung them.
    const about = `${exam_id} ${images.studies}`;
    if (about === showing) return;
    const first = showing === "";
    showing = about;
    clearTimeout(aheadTimer);
    ahead.stop();
    desk.show(subject(), images.studies, images.opening).then(() => {
      // A workstation that has its images on another screen: the window is opened with the page, where the browser lets it.
      if (first && desk.detached() && desk.place().why === "lost") desk.open();
    });
  });

  // --- a window of their own ----------------------------------------------------------------------------------------

  function drawPlace({ detached, ok, why, there }) {
    const bar = $("viewer-away");
    bar.hidden = !detached;
    if (!detached) return;
    bar.classList.toggle("is-bad", !ok);
    bar.querySelector("[data-away=who]").textContent = page.exam.patient ? `${page.exam.patient} · ${page.exam.exam}` : "";
    bar.querySelector("[data-away=state]").textContent = ok
      ? t("影像窗口:同一患者、同一检查")
      : t("{why},不能提交和签发", { why: WHY[why](there) });
    bar.querySelector("[data-away=open]").hidden = why !== "lost";
    bar.querySelector("[data-away=follow]").hidden = ok || why === "lost";
  }

  function toggle() {
    if (desk.detached()) desk.attach();
    else if (!desk.detach()) toast(t("浏览器没有打开新窗口,请允许本站弹出窗口"), "warn");
  }

  $("viewer-detach").addEventListener("click", toggle);
  $("viewer-away").addEventListener("click", ({ target }) => {
    const asked = target.closest("[data-away]")?.dataset.away;
    if (asked === "open") desk.open();
    else if (asked === "follow") desk.follow();
    else if (asked === "attach") desk.attach();
  });
  page.key("Alt+d", t("影像移到另一屏 / 移回"), toggle);

  const refusal = ({ detached, why, there }) =>
    detached
      ? t("{why},不能提交和签发;请重新打开影像窗口,或按 Alt+D 移回影像", { why: WHY[why](there) })
      : t("影像不是这位患者的,不能提交和签发;请重新打开影像");

  for (const kind of ["submit", "sign"]) {
    page.before(kind, async () => {
      const place = await desk.look();
      return place.ok ? null : { veto: refusal(place) };
    });
  }
  // Between the question above and the PIN minutes may pass.
  document.addEventListener(
    "submit",
    (event) => {
      if (event.target.id !== "sign-form" || desk.place().ok) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      toast(refusal(desk.place()), "bad");
    },
    { capture: true },
  );

  // --- the rest -----------------------------------------------------------------------------------------------------

  window.addEventListener("blur", () => {
    // Into the frame: the reader scrolls images.
    if (desk.holdsFocus()) page.touch();
  });
  page.act("late-seen", () =>
    page.once(async () => {
      await post(`/api/exams/${page.exam.exam_id}/late-images-seen`, { lease: page.lease });
      await page.reload({ keepLease: true });
    }),
  );
  document.addEventListener("hub:change", ({ detail }) => {
    if (detail.ref !== page.exam.exam_id || detail.topic !== "exam") return;
    if (detail.data.event === "late_images") toast(t("这项检查又收到新的影像"), "warn");
  });
  page.key("Alt+v", t("到影像"), () => desk.focus());
}
