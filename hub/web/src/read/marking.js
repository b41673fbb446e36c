// Arrows and circles on pictures taken from the viewer. The picture that is sent has them drawn in.
import { t } from "../i18n.js";

const COLOUR = "#ffd34d";

function draw(context, { tool, from, to }, scale) {
  const width = Math.max(2, 3 * scale);
  context.lineCap = "round";
  for (const [style, line] of [
    ["rgba(0, 0, 0, 0.75)", width + 3 * scale],
    [COLOUR, width],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = line;
    context.beginPath();
    if (tool === "circle") {
      const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
      context.ellipse(x, y, Math.abs(to.x - from.x) / 2 + 1, Math.abs(to.y - from.y) / 2 + 1, 0, 0, 2 * Math.PI);
    } else {
      const angle = Math.atan2(to.y - from.y, to.x - from.x);
      const head = 14 * scale;
      context.moveTo(from.x, from.y);
      context.lineTo(to.x, to.y);
      for (const side of [-1, 1]) {
        context.moveTo(to.x, to.y);
        context.lineTo(to.x - head * Math.cos(angle + side * 0.45), to.y - head * Math.sin(angle + side * 0.45));
      }
    }
    context.stroke();
  }
}

/**
 * Pictures in `box` on which one draws with the mouse, a pen or a finger. An arrow's head is where one lets go.
 * @returns {{tool: string, add: Function, undo: Function, clear: Function, blobs: Function}}
 */
export function marking(box, most) {
  let pictures = [];
  const drawn = [];
  const tools = { tool: "arrow" };

  function paint(picture, extra = null) {
    const { canvas, image, marks } = picture;
    const context = canvas.getContext("2d");
    const scale = canvas.width / Math.max(1, canvas.clientWidth || 480);
    context.drawImage(image, 0, 0);
    for (const mark of extra ? [...marks, extra] : marks) draw(context, mark, scale);
  }

  function place(canvas, event) {
    const area = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - area.left) * canvas.width) / area.width,
      y: ((event.clientY - area.top) * canvas.height) / area.height,
    };
  }

  function listen(picture) {
    const { canvas } = picture;
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      const from = place(canvas, event);
      const mark = (next) => ({ tool: tools.tool, from, to: place(canvas, next) });
      const move = (next) => paint(picture, mark(next));
      const end = (next) => {
        canvas.removeEventListener("pointermove", move);
        const made = mark(next);
        if (Math.hypot(made.to.x - from.x, made.to.y - from.y) > canvas.width / 80) {
          picture.marks.push(made);
          drawn.push(picture);
        }
        paint(picture);
      };
      canvas.addEventListener("pointermove", move);
      canvas.addEventListener("pointerup", end, { once: true });
    });
  }

  return Object.assign(tools, {
    async add(shot) {
      if (pictures.length >= most) return false;
      const image = await createImageBitmap(shot.blob);
      const canvas = document.createElement("canvas");
      canvas.width = image.width;
      canvas.height = image.height;
      canvas.className = "exchange-mark";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", t("截取的图像,拖动画出标记"));
      const item = document.createElement("div");
      item.className = "exchange-mark-item";
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", t("去掉这张图片"));
      const picture = { canvas, image, marks: [], shot };
      remove.addEventListener("click", () => {
        pictures = pictures.filter((other) => other !== picture);
        item.remove();
      });
      item.append(canvas, remove);
      box.append(item);
      pictures.push(picture);
      listen(picture);
      paint(picture);
      return true;
    },
    undo() {
      const picture = drawn.pop();
      if (!picture) return;
      picture.marks.pop();
      paint(picture);
    },
    clear() {
      pictures = [];
      drawn.length = 0;
      box.replaceChildren();
    },
    /** The pictures as PNG with what was drawn on them. */
    blobs() {
      return Promise.all(
        pictures.map(
          ({ canvas, shot }) =>
            new Promise((done) => {
              canvas.toBlob((blob) => done({ blob, shot }), "image/png");
            }),
        ),
      );
    },
  });
}
