// Feedback to authors, and decisions of arbitration.
import { post } from "../api.js";
import { onSubmit, texts } from "../forms.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-read]");
  if (!button) return;
  button.disabled = true;
  await post(button.dataset.read);
  location.reload();
});

for (const form of document.querySelectorAll("[data-decide]")) {
  onSubmit(
    form,
    (sent) => post(`/api/arbitrations/${sent.dataset.decide}/decide`, { decision: "", ...texts(sent) }),
    () => {
      toast(t("裁定已记录,双方医师会收到通知"), "ok", 4);
      location.reload();
    },
  );
}
