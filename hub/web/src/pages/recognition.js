// Mutual recognition: looking at what may be recognised, and deciding.
import { ApiError, post } from "../api.js";
import { onSubmit, texts } from "../forms.js";
import { data, t } from "../i18n.js";
import { lightViewer } from "../pictures.js";
import { ask, toast } from "../ui.js";

const page = data("recognition-data");

const open = lightViewer(
  (id) => page.series[id],
  (id, series) => `/recognition/${page.recognition}/exams/${series.exam}/pictures/image/${id}`,
);

document.addEventListener("click", async (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const opener = target?.closest("[data-open-series]");
  if (opener) open(opener.dataset.openSeries);
  const reuse = target?.closest("[data-reuse]");
  if (reuse && !reuse.disabled) {
    const agreed = await ask(t("互认后,本次登记取消,不再拍摄。互认的是影像和数据,不是诊断结论,由接诊医生对照现在的病情使用。"), {
      title: t("互认这次检查?"),
      yes: t("互认"),
    });
    if (!agreed) return;
    reuse.disabled = true;
    try {
      await post(`/api/recognition/${page.recognition}/reuse`, { exam_id: reuse.dataset.reuse });
      location.reload();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "bad");
      reuse.disabled = false;
    }
  }
  if (target?.closest("[data-ask-again]")) {
    const { recognition } = await post(`/api/exams/${page.exam}/recognition`, {});
    if (recognition) location.reload();
    else toast(t("现在没有可互认的检查"), "info");
  }
});

onSubmit(
  document.getElementById("repeat"),
  (form) => post(`/api/recognition/${page.recognition}/repeat`, texts(form, ["reason", "text"])),
  () => location.assign(`/clinic/upload?exam=${page.exam}`),
);
