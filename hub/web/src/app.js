// Entry of every page.
import htmx from "htmx.org";
import { startAlerts } from "./alerts.js";
import { ApiError, csrfToken, problemText } from "./api.js";
import { t } from "./i18n.js";
import { startCritical } from "./critical.js";
import { startLive } from "./live.js";
import { showKeys, startKeys, startSplit, tick, toast, typing } from "./ui.js";

window.htmx = htmx;

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = csrfToken();
});

document.addEventListener("htmx:responseError", (event) => {
  const { xhr, elt } = event.detail;
  // A part that refreshes itself stays as it is; only what a person asked for is worth a message.
  if (elt.closest("[data-live-topic]") === elt && xhr.status !== 401) return;
  let problem = null;
  try {
    problem = JSON.parse(xhr.responseText);
  } catch {
    problem = null;
  }
  toast(problemText(xhr.status, problem), "bad");
});

document.addEventListener("htmx:sendError", (event) => {
  if (!event.detail.elt.dataset.liveTopic) toast(problemText(0), "bad");
});

document.addEventListener("htmx:afterSettle", (event) => tick(event.target));

window.addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof ApiError) {
    event.preventDefault();
    toast(event.reason.message, "bad");
  }
});

function setLocale(locale) {
  document.cookie = `hub_locale=${locale}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  const address = new URL(location.href);
  address.searchParams.delete("lang");
  location.replace(address);
}

function addPhrase(button) {
  const field = document.getElementById(button.dataset.phraseFor);
  if (!field) return;
  const text = (button.dataset.phrase ?? button.textContent).trim();
  const joined = field.value && !/[\s,。;:、,.;:]$/.test(field.value) ? `${field.value};${text}` : field.value + text;
  field.value = joined;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
}

function showTab(tab) {
  for (const other of tab.parentElement.querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    const panel = document.getElementById(other.getAttribute("aria-controls"));
    if (panel) panel.hidden = !chosen;
  }
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (!target) return;
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
  const control = target.closest(
    "[data-set-locale], [data-show-keys], [data-open-dialog], [data-close-dialog], [data-phrase-for], [role=tab][aria-controls], [data-print], [data-copy]",
  );
  if (control) {
    const { dataset } = control;
    if (dataset.setLocale) setLocale(dataset.setLocale);
    else if ("showKeys" in dataset) showKeys();
    else if (dataset.openDialog) document.getElementById(dataset.openDialog)?.showModal();
    else if ("closeDialog" in dataset) control.closest("dialog")?.close();
    else if (dataset.phraseFor) addPhrase(control);
    else if ("print" in dataset) window.print();
    else if (dataset.copy) navigator.clipboard?.writeText(dataset.copy).then(() => toast(t("已复制"), "ok"));
    else if (control.getAttribute("role") === "tab") showTab(control);
    return;
  }
  const row = target.closest("tr[data-href]");
  if (row && !target.closest("a, button, input, select, label") && !String(getSelection())) {
    if (event.ctrlKey || event.metaKey) window.open(row.dataset.href, "_blank", "noopener");
    else location.assign(row.dataset.href);
  }
});

document.addEventListener("keydown", (event) => {
  const row = event.target instanceof Element ? event.target.closest("tr[data-href]") : null;
  if (row && event.key === "Enter" && !typing(event.target)) location.assign(row.dataset.href);
});

// Other windows of this session must not go on showing what it could see.
document.addEventListener("submit", ({ target }) => {
  if (target.getAttribute("action") !== "/logout") return;
  const channel = new BroadcastChannel("hub-session");
  setTimeout(() => channel.postMessage("ended"), 0);
});

// A question before a form or button does its work: data-confirm="…".
document.addEventListener("submit", (event) => {
  const asked = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (asked && !window.confirm(asked)) event.preventDefault();
});

document.addEventListener("change", (event) => {
  if (event.target instanceof Element && event.target.matches("[data-autosubmit]")) event.target.form?.requestSubmit();
});

// What waits for too long is said on every page of those whose it is to mend.
const ALERTS = {
  alert_no_images: { page: "/clinic", text: () => t("有已登记的检查超时未收到影像") },
  alert_unverified: { page: "/verify-identity", text: () => t("有检查超时未核对") },
};
document.addEventListener("hub:change", ({ detail }) => {
  const alert = ALERTS[detail.data?.event];
  if (alert && detail.fresh && document.querySelector(`#app-nav a[href="${alert.page}"]`)) toast(alert.text(), "bad");
});

startKeys();
tick();
setInterval(() => document.visibilityState === "visible" && tick(), 5000);
document.addEventListener("visibilitychange", () => tick());
for (const split of document.querySelectorAll(".split")) startSplit(split);
startLive();
startAlerts();
startCritical();
