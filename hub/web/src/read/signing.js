// The end of a report: submitting it for review, or signing it.
import { ApiError, get, post } from "../api.js";
import { t } from "../i18n.js";
import { ask, toast } from "../ui.js";
import { $, TEXTS } from "./page.js";

export function attach(page) {
  const dialog = $("sign-dialog");
  let payload = {};
  // What the dialog's button does: sign, or issue as a preliminary report.
  let deed = "sign";

  function complete() {
    const { findings, impression, positive } = page.collect();
    const lacks = !findings.trim()
      ? [$("findings"), t("请填写检查所见")]
      : !impression.trim()
        ? [$("impression"), t("请填写诊断意见")]
        : positive === null
          ? [page.panel.querySelector("[data-positive]"), t("请选择阳性或阴性")]
          : null;
    if (!lacks) return true;
    toast(lacks[1], "warn");
    lacks[0].focus();
    return false;
  }

  const submit = () =>
    page.once(async () => {
      if (!page.writes() || !complete()) return;
      const agreed = await page.asked("submit");
      if (!agreed || !(await page.settled())) return;
      const { lease, revision, exam } = page;
      const answer = await page.send("submit", `/api/exams/${exam.exam_id}/submit`, { lease, revision }, agreed);
      page.forget();
      page.emit("submitted", answer);
      toast(t("已提交审核"), "ok", 3);
      await page.after();
    });

  const open = (wanted = "sign") =>
    page.once(async () => {
      deed = wanted;
      if (!page.writes() || !complete()) return;
      const agreed = await page.asked("sign");
      if (!agreed || !(await page.settled())) return;
      payload = agreed;
      // Whose report of which exam it is may have been corrected since this page was opened: the dialog shows what holds now.
      const now = await page.latest();
      if (now.version?.version_id !== page.version.version_id || now.version.revision !== page.revision) {
        toast(t("报告已在别处改动,请按“重新打开”"), "warn");
        return;
      }
      page.version = now.version;
      page.exam = { ...page.exam, patient: now.patient, exam: now.exam, accession: now.accession, signing: now.signing };
      if (page.exam.signing.identity_open) {
        toast(t("患者身份尚未核对,不能正式签发;文字已保存"), "warn");
        return;
      }
      show();
      const status = await get("/api/signing");
      if (!status.identities.some((one) => !one.revoked_at)) {
        const go = await ask(t("您还没有签名证书。到“签名证书”页申领后再签发;报告已保存。"), { yes: t("去申领") });
        if (go) window.open("/signing", "_blank", "noopener");
        return;
      }
      askPin(!status.unlocked);
      tell("");
      Object.assign($("sign-form").dataset, {
        hash: page.version.content_hash,
        revision: String(page.version.revision),
        version: page.version.version_id,
      });
      dialog.showModal();
      if (status.unlocked) $("sign-go").focus();
      else $("sign-pin").focus();
    });

  /** What is shown is what the server gave back for the last save; the request names its hash. */
  function show() {
    const { exam, version } = page;
    const preliminary = deed === "issue-preliminary";
    $("sign-title").textContent = preliminary ? t("发急诊报告(以正式报告为准)") : t("签发报告");
    $("sign-go").textContent = preliminary ? t("签名并发出急诊报告") : t("签名并签发");
    dialog.querySelector("[data-sign-preliminary]").hidden = !preliminary;
    const put = (name, text) => {
      const element = dialog.querySelector(`[data-sign=${name}]`);
      element.textContent = text;
      const part = element.closest("[data-sign-if]");
      if (part) part.hidden = !text;
    };
    put("patient", exam.patient);
    put("exam", exam.exam);
    put("accession", exam.accession);
    for (const name of TEXTS) put(name, version[name]);
    const flags = [version.positive ? t("阳性") : t("阴性")];
    if (version.critical) flags.push(t("危急值"));
    dialog.querySelector("[data-sign=flags]").replaceChildren(
      ...flags.map((text, index) => {
        const badge = document.createElement("span");
        badge.className = `badge badge--${index ? "red" : version.positive ? "amber" : "green"}`;
        badge.textContent = text;
        return badge;
      }),
    );
    dialog.querySelector("[data-sign=images]").replaceChildren(
      ...version.key_images.map((image) => {
        const picture = document.createElement("img");
        picture.src = image.url;
        picture.alt = image.caption || t("关键图像");
        picture.title = image.caption;
        return picture;
      }),
    );
  }

  const pin = dialog.querySelector("[data-sign-pin]");

  function askPin(needed) {
    pin.hidden = !needed;
    $("sign-pin").value = "";
  }

  function tell(text) {
    const box = dialog.querySelector("[data-sign-error]");
    box.hidden = !text;
    box.textContent = text;
  }

  $("sign-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (page.busy) return;
    page.busy = true;
    $("sign-go").disabled = true;
    tell("");
    const { hash, revision, version } = event.target.dataset;
    try {
      if (!pin.hidden) {
        await post("/api/signing/unlock", { pin: $("sign-pin").value });
        askPin(false);
      }
      const body = { lease: page.lease, revision: Number(revision), content_hash: hash };
      const done = await page.send("sign", `/api/reports/${version}/${deed}`, body, payload);
      page.forget();
      dialog.close();
      page.emit("signed", done);
      signed(done);
      await page.after();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code === "key-locked") askPin(true);
      tell(error.message);
      if (error.code === "lease-lost") page.lose(error.message);
      $("sign-pin").focus();
    } finally {
      page.busy = false;
      $("sign-go").disabled = false;
    }
  });

  function signed(done) {
    const box = toast(t("已签发 {number}", { number: done.number }), "ok", 12);
    const link = document.createElement("a");
    link.href = done.pdf;
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = " PDF";
    box.firstChild.append(link);
  }

  page.act("submit", submit);
  page.act("sign", () => open());
  page.act("preliminary", () => open("issue-preliminary"));
  page.key("Alt+e", t("先发急诊报告"), () => {
    if (page.panel.querySelector("[data-act=preliminary]")) open("issue-preliminary");
  });
  page.key("Ctrl+Enter", t("提交审核 / 签发"), () => {
    if (page.panel.querySelector("[data-act=sign]")) open();
    else if (page.panel.querySelector("[data-act=submit]")) submit();
  });
}
