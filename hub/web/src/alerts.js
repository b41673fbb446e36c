// What is said on every page of those concerned: a limit that runs out, an emergency offered, an exam nobody answered.
import { config, t } from "./i18n.js";
import { toast } from "./ui.js";

const TONES = { 50: "info", 80: "warn", 100: "bad" };

function limitText({ level, holder }) {
  const mine = holder && holder === config.user;
  if (level === 100) return mine ? t("您正在处理的检查已超过时限") : t("有检查已超过时限");
  return mine ? t("您正在处理的检查已用时限 {level} %", { level }) : t("有检查已用时限 {level} %", { level });
}

let open = null;

/** Several that come together are one message with the gravest tone. */
function gathered(data) {
  if (open?.box.isConnected) open.box.remove();
  else open = { count: 0, level: 0, box: null };
  open.count += 1;
  open.level = Math.max(open.level, data.level);
  const text = open.count > 1 ? t("{n} 份检查的时限将到或已过", { n: open.count }) : limitText(data);
  open.box = said(text, TONES[open.level] ?? "warn", "/alerts");
}

function said(text, tone, page) {
  const box = toast(text, tone);
  const link = document.createElement("a");
  link.href = page;
  link.textContent = t("打开列表");
  box.firstElementChild.append(" ", link);
  return box;
}

export function startAlerts() {
  document.addEventListener("hub:change", ({ detail: { topic, data = {}, fresh } }) => {
    if (!fresh) return;
    const page = (href) => document.querySelector(`#app-nav a[href="${href}"]`);
    if (topic === "alert" && page("/alerts")) {
      if (data.event === "limit_alert") gathered(data);
      else if (data.event === "unanswered") said(t("有检查无人应答,已转给下一家"), "warn", "/alerts");
    } else if (topic === "routing" && data.event === "emergency_offered" && page("/queue")) {
      said(t("新的急诊检查,先接先得"), "bad", "/queue");
    }
  });
}
