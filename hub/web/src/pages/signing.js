// One's certificates, and the key that is open in this session.
import { ApiError, api, get, post } from "../api.js";
import { data, t } from "../i18n.js";
import { toast } from "../ui.js";

const { current } = data("signing-data");
const $ = (id) => document.getElementById(id);

async function refresh() {
  const status = await get("/api/signing");
  const has = status.identities.some((one) => !one.revoked_at);
  const box = $("key-state");
  box.classList.toggle("is-open", status.unlocked);
  const time = (text) => new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  if (!has) box.textContent = t("没有可用的证书");
  else if (status.unlocked) box.textContent = t("已打开,闲置到 {idle} 锁定,最迟 {until}", { idle: time(status.idle_until), until: time(status.until) });
  else box.textContent = t("已锁定");
  $("unlock-form").hidden = !has || status.unlocked;
  $("lock").hidden = !status.unlocked;
}

function onSubmit(id, work) {
  $(id)?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("[type=submit]");
    button.disabled = true;
    try {
      await work(event.target);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "bad");
    } finally {
      button.disabled = false;
    }
  });
}

const twice = (one, two) => {
  if (one === two) return true;
  toast(t("两次输入的签名密码不一样"), "warn");
  return false;
};

onSubmit("unlock-form", async (form) => {
  await post("/api/signing/unlock", { pin: form.elements.pin.value });
  form.reset();
  await refresh();
});
onSubmit("issue-form", async (form) => {
  if (!twice(form.elements.pin.value, form.elements.again.value)) return;
  await post("/api/signing/identities", { pin: form.elements.pin.value });
  location.reload();
});
onSubmit("import-form", async (form) => {
  await api("/api/signing/identities/import", { method: "POST", body: new FormData(form) });
  location.reload();
});
onSubmit("pin-form", async (form) => {
  if (!twice(form.elements.new.value, form.elements.again.value)) return;
  await post(`/api/signing/identities/${current}/pin`, { old: form.elements.old.value, new: form.elements.new.value });
  form.closest("dialog").close();
  form.reset();
  toast(t("签名密码已更改"), "ok");
  await refresh();
});
onSubmit("revoke-form", async (form) => {
  await post(`/api/signing/identities/${current}/revoke`, { reason: form.elements.reason.value });
  location.reload();
});
$("lock").addEventListener("click", async () => {
  await post("/api/signing/lock");
  await refresh();
});

refresh();
setInterval(() => document.visibilityState === "visible" && refresh().catch(() => {}), 60000);
