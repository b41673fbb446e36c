// One's own account: password, second factor, sessions.
import { del, post, put } from "../api.js";
import { onSubmit, texts } from "../forms.js";
import { t } from "../i18n.js";
import { ask, toast } from "../ui.js";

const form = (id) => document.getElementById(id);

onSubmit(
  form("password-form"),
  (sent) => post("/api/account/password", texts(sent, ["old", "password"])),
  (_answer, sent) => {
    if (sent.dataset.first) {
      location.assign("/");
      return;
    }
    sent.reset();
    toast(t("密码已修改,其他设备已退出"), "ok");
  },
);
onSubmit(
  form("totp-off"),
  (sent) => del("/api/account/totp", { json: texts(sent, ["password"]) }),
  () => location.reload(),
);

let secret = "";
form("totp-start")?.addEventListener("click", async (event) => {
  const button = event.currentTarget;
  const offer = await post("/api/account/totp");
  secret = offer.secret;
  form("totp-qr").innerHTML = offer.svg;
  form("totp-secret").textContent = secret;
  form("totp-on").hidden = false;
  button.hidden = true;
});
onSubmit(
  form("totp-on"),
  (sent) => put("/api/account/totp", { secret, ...texts(sent, ["code"]) }),
  () => location.reload(),
);

form("end-others")?.addEventListener("click", async () => {
  if (!(await ask(t("除本设备外,您在其他设备上的登录将立即失效。"), { yes: t("退出其他设备") }))) return;
  await del("/api/account/sessions");
  location.reload();
});
