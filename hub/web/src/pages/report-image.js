// The image on which a measurement of a report was made, with its drawing.
import { data, t } from "../i18n.js";
import { toast } from "../ui.js";
import { createStage } from "../viewing/stage.js";

const { subject, image } = data("image-data");

const stage = createStage(document.getElementById("screen"), {
  onUnauthorised: () => stage.clear(t("登录已失效,影像已清除")),
  async onOpened() {
    try {
      await stage.viewer.showImage({ ...image, uid: image.drawing?.annotationUID ?? "" });
    } catch {
      toast(t("没有找到这幅影像"), "warn");
    }
  },
});
new BroadcastChannel("hub-session").addEventListener("message", () => stage.clear(t("登录已失效,影像已清除")));
stage.show(subject, subject.studies, { initialSopInstanceUid: image.sop });
