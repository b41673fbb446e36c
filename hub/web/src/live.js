// Live pages. Every change arrives as a "hub:change" event on document with {topic, ref, data, fresh}; elements with
// data-live-topic="exams reports" are fetched again (from data-live-url, or their own part of this page by id).
import htmx from "htmx.org";
import { config, t } from "./i18n.js";
import { openSource } from "./live-source.js";

const DEBOUNCE = 400;
const BANNER_AFTER = 4000;
const HEARTBEAT = 2000;
let bannerTimer = 0;

function showState(state) {
  for (const element of document.querySelectorAll("[data-live-indicator]")) {
    element.dataset.state = state;
    const words = element.querySelector("[data-live-text]");
    if (words) words.textContent = state === "on" ? t("实时") : state === "off" ? t("已断开") : t("连接中");
  }
  const banner = document.querySelector("[data-offline-banner]");
  clearTimeout(bannerTimer);
  if (!banner) return;
  if (state === "off") {
    bannerTimer = setTimeout(() => {
      banner.hidden = false;
    }, BANNER_AFTER);
  } else if (state === "on") {
    // What happened while the line was down may be older than what the hub still remembers.
    if (!banner.hidden) refreshAll();
    banner.hidden = true;
  }
}

const pending = new Map();

function refresh(element) {
  clearTimeout(pending.get(element));
  pending.set(
    element,
    setTimeout(() => {
      if (!element.isConnected) {
        pending.delete(element);
        return;
      }
      const busy = element.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
      const chosen = !getSelection().isCollapsed && element.contains(getSelection().anchorNode);
      const open = element.querySelector("details[data-menu][open]") !== null;
      if (busy || chosen || open || document.visibilityState !== "visible") {
        refresh(element);
        return;
      }
      pending.delete(element);
      const { liveUrl, liveSwap } = element.dataset;
      const options = { target: element, source: element, swap: liveSwap ?? (liveUrl ? "innerHTML" : "outerHTML") };
      if (!liveUrl) options.select = `#${CSS.escape(element.id)}`;
      Promise.resolve(htmx.ajax("GET", liveUrl ?? location.pathname + location.search, options)).catch(() => {});
    }, DEBOUNCE),
  );
}

function refreshAll() {
  for (const element of document.querySelectorAll("[data-live-topic]")) refresh(element);
}

let told = 0;

/**
 * A stream that begins, or begins again, looks back a little, so that a change which was committed late is not missed.
 * What the page had when it was made, or was told before, is not fresh: parts are fetched again, nobody is told anew.
 */
function dispatch(change, number) {
  const fresh = number === undefined || (number > config.liveSince && number !== told);
  told = Math.max(told, number ?? 0);
  document.dispatchEvent(new CustomEvent("hub:change", { detail: { ...change, fresh } }));
  for (const element of document.querySelectorAll("[data-live-topic]")) {
    const { liveTopic, liveRef } = element.dataset;
    if (change.topic === "*") refresh(element);
    else if (liveTopic.split(/\s+/).includes(change.topic) && (!liveRef || liveRef === change.ref)) refresh(element);
  }
}

function withWorker(url) {
  const worker = new SharedWorker(config.liveWorker, { type: "module", name: "hub-live" });
  worker.port.addEventListener("message", ({ data }) => {
    if (data.kind === "change") dispatch(data.change, data.number);
    else showState(data.state);
  });
  worker.port.start();
  worker.port.postMessage({ kind: "hello", url, user: config.user, since: config.liveSince });
  setInterval(() => worker.port.postMessage({ kind: "here" }), 60000);
  window.addEventListener("pagehide", () => worker.port.postMessage({ kind: "bye" }));
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) worker.port.postMessage({ kind: "hello", url, user: config.user, since: config.liveSince });
  });
  return worker;
}

// Without SharedWorker the tabs elect one that holds the stream: whoever hears no leader takes over, and of two
// leaders the one with the smaller number stays.
function withElection(url) {
  const channel = new BroadcastChannel(`hub-live-${config.user ?? ""}`);
  const me = Math.random();
  let close = null;
  let heard = Date.now();

  const lead = () => {
    close = openSource(
      url,
      (change, number) => {
        channel.postMessage({ kind: "change", change, number });
        dispatch(change, number);
      },
      (state) => {
        channel.postMessage({ kind: "state", state });
        showState(state);
      },
      config.liveSince,
    );
  };
  const resign = () => {
    close?.();
    close = null;
    heard = Date.now();
  };
  channel.addEventListener("message", ({ data }) => {
    if (data.kind === "change") dispatch(data.change, data.number);
    else if (data.kind === "state") showState(data.state);
    else if (data.kind === "lead") {
      if (close && data.me < me) resign();
      if (!close) heard = Date.now();
    } else if (data.kind === "bye") heard = 0;
  });
  setInterval(() => {
    if (close) channel.postMessage({ kind: "lead", me });
    else if (Date.now() - heard > HEARTBEAT * 2 + me * HEARTBEAT) lead();
  }, HEARTBEAT);
  window.addEventListener("pagehide", () => {
    if (close) channel.postMessage({ kind: "bye" });
    resign();
  });
}

export function startLive() {
  const { live } = config;
  if (!live) return;
  const url = new URL(live, location.href).href;
  if (typeof SharedWorker === "function" && config.liveWorker) {
    withWorker(url).addEventListener("error", () => withElection(url), { once: true });
  } else if (typeof BroadcastChannel === "function") {
    withElection(url);
  } else {
    openSource(url, dispatch, showState, config.liveSince);
  }
  window.addEventListener("offline", () => showState("off"));
}
