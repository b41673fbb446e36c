// Positive or negative.
import { t } from "../i18n.js";

export function attach(page) {
  let positive = null;

  function show(value) {
    positive = value ?? null;
    for (const button of page.panel.querySelectorAll("[data-positive]")) {
      button.setAttribute("aria-checked", String(positive !== null && button.dataset.positive === String(positive)));
    }
  }
  page.setPositive = (value) => {
    show(value);
    page.changed();
  };
  page.field("positive", { read: () => positive, write: show });

  page.panel.addEventListener("click", ({ target }) => {
    const button = target instanceof Element ? target.closest("[data-positive]") : null;
    if (button && page.writes()) page.setPositive(button.dataset.positive === "true");
  });
  page.key("Alt+p", t("切换阴性 / 阳性"), () => {
    if (page.writes()) page.setPositive(positive !== true);
  });
}
