// Key images: taken from the viewer, printed with the report.
import { api } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { $ } from "./page.js";

export function attach(page) {
  let images = [];
  const value = (list) => (list ?? []).map(({ id, caption }) => ({ id, caption }));

  page.field("key_images", { read: () => value(images), norm: value });

  page.on("panel", () => {
    images = page.exam.mode === "view" ? [] : (page.version?.key_images ?? []);
    draw();
  });
  page.on("taken", (answer) => {
    const captions = new Map(images.map(({ id, caption }) => [id, caption]));
    images = answer.key_images.map((image) => ({ ...image, caption: captions.get(image.id) ?? image.caption }));
  });
  page.on("adopt", (body) => {
    images = images.filter(({ id }) => body.key_images.some((image) => image.id === id));
    draw();
  });

  function draw() {
    $("key-images")?.replaceChildren(
      ...images.map((image) => {
        const item = document.createElement("div");
        item.className = "read-image";
        const picture = document.createElement("img");
        picture.src = image.url;
        picture.alt = image.caption || t("关键图像");
        const caption = document.createElement("input");
        caption.value = image.caption;
        caption.placeholder = t("说明");
        caption.maxLength = 100;
        caption.setAttribute("aria-label", t("关键图像说明"));
        caption.addEventListener("input", () => {
          image.caption = caption.value;
        });
        const remove = document.createElement("button");
        remove.type = "button";
        remove.textContent = "×";
        remove.setAttribute("aria-label", t("去掉这张图像"));
        remove.addEventListener("click", () => {
          images = images.filter((other) => other !== image);
          draw();
          page.changed();
        });
        item.append(picture, caption, remove);
        return item;
      }),
    );
  }

  async function capture() {
    if (!page.writes()) return;
    if (images.length >= page.exam.images.at_most) {
      toast(t("一份报告最多 {n} 张关键图像", { n: page.exam.images.at_most }), "warn");
      return;
    }
    let shot;
    try {
      shot = await page.viewer.capture({ stamp: page.exam.accession });
    } catch {
      toast(t("没有截取到图像,请先点选一个视窗"), "warn");
      return;
    }
    if (shot.study && !page.exam.images.studies.includes(shot.study)) {
      toast(t("当前视窗显示的是另一次检查的影像,不能作为本报告的关键图像"), "warn");
      return;
    }
    if (page.dirty) await page.save();
    const body = new FormData();
    body.set("lease", page.lease);
    body.set("file", shot.blob, "key.png");
    body.set("sop_uid", shot.sop ?? "");
    if (Number.isInteger(shot.frame) && shot.frame > 0) body.set("frame", String(shot.frame));
    page.take(await api(`/api/exams/${page.exam.exam_id}/key-images`, { method: "POST", body }));
    draw();
    toast(t("已加入关键图像"), "ok", 2);
  }

  const act = () => page.once(capture);
  page.act("capture", act);
  page.key("Alt+k", t("截取关键图像"), act);
}
