// The window of the images on another screen. It follows the page of the report, and shows nothing without one.
import { api } from "../api.js";
import { config, t } from "../i18n.js";
import { openChannel, remember } from "../viewing/channel.js";
import { createStage } from "../viewing/stage.js";

const SESSION_EVERY = 10000;
const DESK_SILENT_AFTER = 12000;
const RELOADS_WITHIN = 2500;
const CALLS = ["idle", "capture", "measure", "restore", "sync", "showImage"];

const me = crypto.randomUUID();
const root = document.getElementById("screen");
let desk = "";
let leaving = 0;
let over = false;
let heard = Date.now();

const tell = (message) => channel.postMessage({ to: "desk", screen: me, desk, ...message });
const event = (name, ...args) => tell({ kind: "event", name, args, exam_id: stage.state().exam_id });
const relayed = Object.fromEntries(
  ["onTouched", "onMeasurements", "onAnnotations", "onUnauthorised", "onHttpError", "onHung"].map((name) => [
    name,
    (...args) => event(name, ...args),
  ]),
);

const stage = createStage(root, {
  ...relayed,
  onUnauthorised(status) {
    event("onUnauthorised", status);
    if (status === 401) end(t("登录已失效,影像已清除"));
  },
  onOpened: () => event("onOpened"),
  onState: state,
});

const channel = openChannel("screen", (message) => {
  if (over) return;
  if (message.desk === desk) heard = Date.now();
  if (message.kind === "show") follow(message);
  else if (message.kind === "ask") tell({ kind: "reply", desk: message.desk, id: message.id, ok: true, result: now() });
  else if (message.kind === "call") answer(message);
  else if (message.kind === "focus") window.focus();
  else if (message.kind === "bye" && message.desk === desk) {
    clearTimeout(leaving);
    // A page that only goes on to the next exam comes back at once.
    leaving = setTimeout(forget, RELOADS_WITHIN, t("报告窗口已离开检查,影像已收起"));
  } else if (message.kind === "close") close();
});
// Of two such windows the newer stays.
const others = openChannel("screens", ({ screen }) => {
  if (screen !== me) end(t("影像已在另一个窗口打开"));
});

const now = () => ({ ...stage.state(), desk, screen: me });

function state() {
  if (desk) tell({ kind: "state", state: now() });
}

function follow({ desk: whose, subject, studies, options, compared }) {
  clearTimeout(leaving);
  desk = whose;
  heard = Date.now();
  document.title = `${subject.patient} · ${subject.exam}`;
  document.getElementById("screen-accession").textContent = subject.accession;
  stage.show(subject, studies, options, compared);
  state();
}

async function answer({ desk: whose, id, name, args }) {
  const reply = (more) => tell({ kind: "reply", desk: whose, id, ...more });
  if (whose !== desk || !CALLS.includes(name)) {
    reply({ ok: false, error: "this window follows another page" });
    return;
  }
  const about = stage.state().exam_id;
  try {
    const result = await stage.viewer[name](...args);
    if (stage.state().exam_id !== about) throw new Error("another exam was opened meanwhile");
    reply({ ok: true, result });
  } catch (error) {
    reply({ ok: false, error: String(error?.message ?? error) });
  }
}

function forget(text) {
  desk = "";
  document.title = t("影像窗口");
  document.getElementById("screen-accession").textContent = "";
  stage.clear(text);
}

/** For good: the images, and whose they were. */
function end(text) {
  if (over) return;
  tell({ kind: "gone", why: "ended" });
  over = true;
  forget(text);
  document.getElementById("screen-attach").disabled = true;
}

async function session() {
  if (over) return;
  try {
    const { user } = await api("/viewer/session");
    if (user !== config.user) end(t("另一个人已在这台电脑登录,影像已清除"));
  } catch (error) {
    if (error.status === 401 || error.status === 403) end(t("登录已失效,影像已清除"));
  }
}

setInterval(session, SESSION_EVERY);
new BroadcastChannel("hub-session").addEventListener("message", () => end(t("登录已失效,影像已清除")));
setInterval(() => {
  if (!desk || document.visibilityState !== "visible") return;
  // The page of the report may lie behind another tab, where its clock hardly runs: it is asked.
  if (Date.now() - heard > DESK_SILENT_AFTER) forget(t("报告窗口没有回应,影像已收起"));
  else tell({ kind: "ping" });
}, 3000);
document.addEventListener("visibilitychange", () => {
  heard = Date.now();
});

function place() {
  if (window.outerWidth < 200) return;
  const { screenX: left, screenY: top, outerWidth: width, outerHeight: height } = window;
  remember({ left, top, width, height });
}

window.addEventListener("resize", place);
window.addEventListener("pagehide", () => {
  place();
  if (!over) tell({ kind: "gone", why: "closed" });
});
document.getElementById("screen-attach").addEventListener("click", () => {
  tell({ kind: "gone", why: "attach" });
});
document.getElementById("screen-full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen().catch(() => {});
});
// The keys of the report work here too.
document.addEventListener("keydown", (pressed) => {
  if (pressed.isComposing || !(pressed.ctrlKey || pressed.altKey || /^F\d+$/.test(pressed.key))) return;
  const { key, ctrlKey, altKey, shiftKey, metaKey } = pressed;
  event("key", { key, ctrlKey, altKey, shiftKey, metaKey });
  if (altKey) pressed.preventDefault();
});

others.postMessage({ to: "screens", screen: me });
forget(t("请在报告窗口打开一项检查"));
tell({ kind: "here" });
