// Critical values on every page: the bar, its clocks, sound and notifications; and the forms of a critical value, on its
// own page and in the reading page. Times are counted from what the hub says: a wrong clock in the browser changes nothing.
import { ApiError, post } from "./api.js";
import { showFields } from "./forms.js";
import { t } from "./i18n.js";
import { toast } from "./ui.js";

const POLL = 20000;
const BEEP_EVERY = 2500;
const MUTE = 60000;

const bar = () => document.getElementById("critical-bar");

// --- clocks -------------------------------------------------------------------------------------------------------

let drawn = performance.now();

/** Note when what the page shows was true: everything counts on from there. */
function stamp(root) {
  for (const element of root.querySelectorAll("[data-critical-clock], [data-critical-item]")) {
    element.dataset.criticalDrawn = String(performance.now());
  }
}

function since(element) {
  return (performance.now() - Number(element.dataset.criticalDrawn || drawn)) / 1000;
}

function tick() {
  for (const element of document.querySelectorAll("[data-critical-clock]")) {
    const seconds = Math.floor(Number(element.dataset.criticalClock) + since(element));
    const words = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (element.textContent !== words) element.textContent = words;
  }
  for (const item of document.querySelectorAll("[data-critical-item][data-open='1']")) {
    const gone = since(item);
    const late = gone >= Number(item.dataset.breachIn);
    const second = !late && item.dataset.unanswered && gone >= Number(item.dataset.escalateIn);
    const level = late ? "breach" : second ? "escalate" : "";
    if (level === item.dataset.level) continue;
    item.dataset.level = level;
    for (const mark of item.querySelectorAll("[data-late]")) mark.hidden = mark.dataset.late !== level;
    load();
  }
}

// --- the bar ------------------------------------------------------------------------------------------------------

let loading = false;
let again = false;
let reached = performance.now();

async function load() {
  if (!bar()) return;
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  try {
    const response = await fetch("/critical/bar", { credentials: "same-origin", headers: { Accept: "text/html" } });
    // Whoever leaves the page open overnight must see that it cannot ring any more.
    if (response.redirected || response.status === 401) deaf(t("登录已失效:本页收不到危急值警报,请重新登录"));
    else if (response.ok) {
      reached = performance.now();
      const text = await response.text();
      // What somebody is about to press stays where it is unless something changed.
      const fresh = document.createElement("div");
      fresh.innerHTML = text;
      const held = document.activeElement?.closest?.("#critical-bar a, #critical-bar button")?.getAttribute("href");
      bar().replaceChildren(...fresh.childNodes);
      stamp(bar());
      if (held) bar().querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
      shown();
    }
  } catch {
    // What stands here goes on counting.
    if (performance.now() - reached > 3 * POLL) deaf(t("与影像中心断开:本页收不到危急值警报,请打电话核实"));
  } finally {
    loading = false;
    if (again) {
      again = false;
      load();
    }
  }
}

/** Say that no alarm comes to this page; what it shows stays. */
function deaf(text) {
  let line = bar().querySelector("[data-critical-deaf]");
  if (!line) {
    line = document.createElement("div");
    line.className = "critical-deaf";
    line.dataset.criticalDeaf = "";
    line.setAttribute("role", "alert");
    bar().prepend(line);
  }
  if (line.textContent !== text) line.textContent = text;
}

/** After the bar was drawn: room for it, sound, notifications, the tab's title. */
function shown() {
  document.documentElement.style.setProperty("--critical-h", `${bar().offsetHeight}px`);
  const ringing = [...bar().querySelectorAll("[data-rings]")];
  document.title = document.title.replace(/^\(!\) /, "");
  if (ringing.length) document.title = `(!) ${document.title}`;
  for (const item of ringing) tell(item);
  ring();
}

// --- sound --------------------------------------------------------------------------------------------------------

let context = null;
let mutedUntil = 0;
let ringing = 0;

function audio() {
  if (!context && typeof AudioContext === "function") context = new AudioContext();
  return context;
}

/** "on" only where the browser really lets this page sound. */
function soundState() {
  if (typeof AudioContext !== "function") return "none";
  return context?.state === "running" ? "on" : "off";
}

function notifyState() {
  if (typeof Notification !== "function" || !window.isSecureContext) return "none";
  return Notification.permission;
}

function showSound() {
  const button = document.querySelector("[data-critical-sound]");
  if (!button) return;
  const sound = soundState();
  const notify = notifyState();
  button.dataset.sound = sound;
  button.dataset.notify = notify;
  button.querySelector("[data-critical-sound-text]").textContent =
    sound === "on" ? t("警报声已开") : sound === "off" ? t("开启警报声") : t("本浏览器不能发声");
  const words = {
    granted: t("浏览器通知已允许"),
    denied: t("浏览器通知被禁止,请在浏览器设置中允许"),
    default: t("浏览器通知未允许,点击后选择允许"),
    none: t("此地址不支持浏览器通知(需要 https)"),
  };
  button.title = words[notify] ?? "";
}

function beep(at, frequency) {
  const tone = context.createOscillator();
  const volume = context.createGain();
  tone.type = "square";
  tone.frequency.value = frequency;
  volume.gain.setValueAtTime(0.0001, at);
  volume.gain.exponentialRampToValueAtTime(0.25, at + 0.02);
  volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.28);
  tone.connect(volume).connect(context.destination);
  tone.start(at);
  tone.stop(at + 0.3);
}

function sound() {
  if (soundState() !== "on") return;
  const at = context.currentTime;
  for (let n = 0; n < 3; n += 1) beep(at + n * 0.34, n % 2 ? 660 : 880);
}

/** Sound as long as something rings. Of several tabs one is enough, where the browser can agree on it. */
function ring() {
  clearTimeout(ringing);
  if (!bar()?.querySelector("[data-rings]")) return;
  if (performance.now() >= mutedUntil && soundState() === "on") {
    if (navigator.locks) {
      navigator.locks.request("hub-critical-sound", { ifAvailable: true }, (lock) => {
        if (!lock) return null;
        sound();
        return new Promise((resolve) => {
          setTimeout(resolve, BEEP_EVERY - 200);
        });
      });
    } else sound();
  }
  ringing = setTimeout(ring, BEEP_EVERY);
}

/** Browsers let a page sound after a gesture; every gesture is a chance. */
async function wake() {
  const found = audio();
  if (found && found.state !== "running") await found.resume().catch(() => {});
  showSound();
}

// --- notifications ------------------------------------------------------------------------------------------------

function tell(item) {
  if (notifyState() !== "granted") return;
  const key = `hub-critical:${item.dataset.criticalItem}:${item.dataset.state}:${item.dataset.level}`;
  if (localStorage.getItem(key)) return;
  localStorage.setItem(key, "1");
  // Nothing of the patient: it may stand on a screen that is locked.
  const note = new Notification(t("危急值"), {
    body: item.querySelector(".critical-state")?.textContent ?? "",
    tag: item.dataset.criticalItem,
    renotify: true,
    requireInteraction: true,
  });
  note.addEventListener("click", () => {
    window.focus();
    location.assign(`/critical/${item.dataset.criticalItem}`);
  });
}

// --- forms --------------------------------------------------------------------------------------------------------

/** The panel anew, with what somebody has typed and not sent. */
async function renew(panel) {
  const response = await fetch(`/critical/${panel.dataset.criticalPanel}/panel`, { credentials: "same-origin" });
  if (!response.ok || response.redirected) return;
  const html = await response.text();
  // From here on nobody can type in between.
  const kept = new Map();
  for (const field of panel.querySelectorAll("input:not([type=radio]), textarea, select")) {
    if (field.id && field.value && field.value !== field.defaultValue) kept.set(field.id, field.value);
  }
  const chosen = panel.querySelector("input[type=radio]:checked")?.value;
  const focused = panel.contains(document.activeElement) ? document.activeElement.id : "";
  const opened = [...panel.querySelectorAll("details")].map((one) => one.open);
  panel.innerHTML = html;
  stamp(panel);
  for (const [id, value] of kept) {
    const field = panel.querySelector(`#${CSS.escape(id)}`);
    if (field) field.value = value;
  }
  if (chosen) {
    const radio = panel.querySelector(`input[type=radio][value="${CSS.escape(chosen)}"]`);
    if (radio) radio.checked = true;
  }
  const details = [...panel.querySelectorAll("details")];
  if (details.length === opened.length) details.forEach((one, index) => Object.assign(one, { open: opened[index] }));
  if (focused) panel.querySelector(`#${CSS.escape(focused)}`)?.focus();
}

/** Show a critical value in a place of the page. */
export async function openPanel(place, id) {
  place.dataset.criticalPanel = id;
  place.replaceChildren();
  await renew(place);
}

async function send(url, json, form, button) {
  const panel = (form ?? button).closest("[data-critical-panel]");
  if (button) button.disabled = true;
  try {
    await post(url, json);
    form?.reset();
    // It may have been drawn anew meanwhile, with what was just sent.
    for (const same of panel?.querySelectorAll(`form[data-critical-post="${CSS.escape(url)}"]`) ?? []) same.reset();
    if (panel) await renew(panel);
    await load();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (form) showFields(form, error);
    else toast(error.message, "bad");
    if (error.status === 409 && panel) await renew(panel);
  } finally {
    if (button) button.disabled = false;
  }
}

function onSubmit(event) {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.dataset.criticalPost) return;
  event.preventDefault();
  const values = Object.fromEntries(new FormData(form));
  const button = event.submitter;
  if (button?.name) values[button.name] = button.value;
  send(form.dataset.criticalPost, values, form, button);
}

function onClick(event) {
  const target = event.target instanceof Element ? event.target : null;
  const button = target?.closest("[data-critical-do], [data-critical-mute], [data-critical-sound], [data-critical-called]");
  if (!button) return;
  if (button.dataset.criticalDo) send(button.dataset.criticalDo, {}, null, button);
  else if ("criticalMute" in button.dataset) {
    mutedUntil = performance.now() + MUTE;
    toast(t("本页静音 1 分钟;警报仍在,请尽快处理"), "warn");
  } else if ("criticalSound" in button.dataset) {
    wake().then(sound);
    if (notifyState() === "default") Notification.requestPermission().then(showSound);
    else if (notifyState() === "denied") toast(button.title, "warn");
  } else {
    const panel = button.closest("#call-panel");
    const { whom, name, number, role } = button.dataset;
    for (const [id, value] of [
      ["call-whom", whom],
      ["call-name", name],
      ["call-number", number],
      ["phone-receiver", whom === "patient" || whom === "clinic" ? "" : name],
      ["phone-role", role],
      ["phone-number", whom === "patient" ? "" : number],
    ]) {
      const field = panel.querySelector(`#${id}`);
      if (field) field.value = value;
    }
    panel.querySelector(".critical-results button")?.focus();
  }
}

export function startCritical() {
  document.addEventListener("submit", onSubmit);
  document.addEventListener("click", onClick);
  for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, wake, { passive: true });
  // What is read back must have been understood, not copied.
  for (const kind of ["paste", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (event.target instanceof Element && event.target.closest("[data-no-paste]")) {
        event.preventDefault();
        toast(t("请用自己的话键入,不要粘贴"), "warn");
      }
    });
  }
  document.addEventListener("hub:change", ({ detail }) => {
    if (detail.topic !== "critical" && detail.topic !== "*") return;
    load();
    for (const panel of document.querySelectorAll("[data-critical-panel]")) {
      if (detail.topic === "*" || detail.ref === panel.dataset.criticalPanel) renew(panel);
    }
  });
  drawn = performance.now();
  setInterval(tick, 1000);
  if (!bar()) return;
  // A page that may sound at once (the browser knows this hub) does; otherwise the button says that it may not.
  audio()?.addEventListener?.("statechange", showSound);
  wake();
  stamp(bar());
  shown();
  setInterval(load, POLL);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") load();
  });
}
