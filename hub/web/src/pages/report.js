// A report's page: printing prints the signed PDF itself.
import "../acknowledge.js";
import { t } from "../i18n.js";
import { onKey, toast } from "../ui.js";

const link = document.querySelector("[data-print-pdf]");

function print() {
  const frame = document.createElement("iframe");
  frame.className = "sr-only";
  frame.title = t("打印");
  frame.src = link.getAttribute("href");
  frame.addEventListener("load", () => {
    try {
      frame.contentWindow.focus();
      frame.contentWindow.print();
    } catch {
      // A browser that shows PDFs with a program of its own.
      window.open(link.href, "_blank", "noopener");
    }
  });
  document.body.append(frame);
  toast(t("正在准备打印…"), "info", 3);
}

link?.addEventListener("click", (event) => {
  event.preventDefault();
  print();
});
if (link) onKey("p", t("打印报告"), print);
