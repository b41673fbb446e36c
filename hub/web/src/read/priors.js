// Earlier exams beside this one.
import { t } from "../i18n.js";
import { $ } from "./page.js";

export function attach(page) {
  page.act("compare", (button) => page.compareImages(button.dataset.studies.split(",")[0], button.dataset.text));
  page.act("comparison", (button) => {
    $("tab-report").click();
    page.text.set("comparison", t("与{what}对比", { what: button.dataset.text }));
  });
  page.key("Alt+h", t("既往检查"), () => $("tab-priors").click());
}
