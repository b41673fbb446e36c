// The report's side of the images: in the page's own frame, or in a window on another screen. Whoever asks for a
// picture or a measurement need not know where they hang.
import { ADDRESS, openChannel, remember, remembered, WINDOW } from "./channel.js";
import { createStage } from "./stage.js";

const ANSWERS_WITHIN = 4000;
const CALLS_WITHIN = 20000;
const ASKED_EVERY = 3000;

/**
 * @param {HTMLElement} root of the stage
 * @param {object} handlers those of the stage; `onPlace(place)` with {detached, ok, why, there}: "" | "lost" | "other" | "wrong",
 *   and whom the window names where it is another
 */
export function createDesk(root, handlers = {}) {
  const me = crypto.randomUUID();
  const waiting = new Map();
  let number = 0;
  let detached = Boolean(remembered().detached);
  let subject = null;
  let last = null;
  let why = detached ? "lost" : "";
  let there = "";
  let opener = null;
  let asking = null;

  const stage = createStage(root, {
    ...handlers,
    onOpened: () => handlers.onOpened?.(subject),
    onHung(hung) {
      if (!detached) last = hung;
    },
    onState: told,
  });

  const channel = openChannel("desk", (message) => {
    if (message.kind === "here") {
      if (detached) send();
    } else if (message.kind === "ping") {
      if (message.desk === me && detached) channel.postMessage({ to: "screen", desk: me, kind: "pong" });
    } else if (message.kind === "gone") {
      if (message.why === "attach" && message.desk === me) attach();
      else if (detached) set("lost");
    } else if (message.desk !== me) {
      if (message.kind === "state" && detached) set("other", message.state.who);
    } else if (message.kind === "reply") {
      const entry = waiting.get(message.id);
      waiting.delete(message.id);
      if (!entry) return;
      clearTimeout(entry.timer);
      if (message.ok) entry.resolve(message.result);
      else entry.reject(new Error(message.error));
    } else if (message.kind === "state") {
      judge(message.state);
    } else if (message.kind === "event" && detached) {
      hear(message);
    }
  });

  function hear({ name, args, exam_id }) {
    // A word about another exam, still under way while this page has gone on.
    if (exam_id && exam_id !== subject?.exam_id) return;
    if (name === "key") document.body.dispatchEvent(new KeyboardEvent("keydown", { ...args[0], bubbles: true }));
    else if (name === "onHung") [last] = args;
    else if (name === "onOpened") handlers.onOpened?.(subject);
    else handlers[name]?.(...args);
  }

  function request(kind, more, within) {
    return new Promise((resolve, reject) => {
      number += 1;
      const id = number;
      const timer = setTimeout(() => {
        waiting.delete(id);
        reject(new Error("the window of the images does not answer"));
      }, within);
      waiting.set(id, { resolve, reject, timer });
      channel.postMessage({ to: "screen", desk: me, kind, id, ...more });
    });
  }

  /** Where the images are and whether they are this exam's, told once for each change. */
  let toldLast = "";
  function told() {
    const place = here();
    const text = JSON.stringify(place);
    if (text === toldLast) return;
    toldLast = text;
    handlers.onPlace?.(place);
  }

  function here() {
    if (!detached) return { detached, ok: !stage.state().wrong, why: stage.state().wrong ? "wrong" : "" };
    return { detached, ok: why === "", why, there };
  }

  function set(reason, who = "") {
    why = reason;
    there = who;
    told();
  }

  function judge(state) {
    if (state.desk !== me || state.exam_id !== subject?.exam_id) set("other", state.who);
    else if (state.wrong || (state.patient !== "" && !state.covered && state.patient !== subject.county_number)) set("wrong", state.who);
    else set("");
  }

  function send() {
    if (!subject) return;
    channel.postMessage({ to: "screen", desk: me, kind: "show", subject, ...last });
  }

  /** Ask the window what it shows; the answer, or its silence, is judged. */
  async function look() {
    if (!detached) return here();
    asking ??= request("ask", {}, ANSWERS_WITHIN).finally(() => {
      asking = null;
    });
    try {
      judge(await asking);
    } catch {
      set("lost");
    }
    return here();
  }

  setInterval(() => {
    if (detached && document.visibilityState === "visible") look();
  }, ASKED_EVERY);

  // Of two pages of reports the window follows the one that is worked in.
  window.addEventListener("focus", () => {
    if (detached && why === "other") send();
  });
  window.addEventListener("pagehide", () => {
    channel.postMessage({ to: "screen", desk: me, kind: "bye" });
  });
  window.addEventListener("pageshow", ({ persisted }) => {
    if (persisted && detached) send();
  });

  function features() {
    const { left = 0, top = 0, width = 1280, height = 900 } = remembered();
    return `popup,left=${left},top=${top},width=${width},height=${height}`;
  }

  /** Onto the screen that the report does not stand on, where the browser knows of it and the user allows. */
  async function place(opened) {
    if (!("getScreenDetails" in window) || remembered().width) return;
    try {
      const { screens, currentScreen } = await window.getScreenDetails();
      const other = screens.find((screen) => screen !== currentScreen);
      if (!other || opened.closed) return;
      opened.moveTo(other.availLeft, other.availTop);
      opened.resizeTo(other.availWidth, other.availHeight);
    } catch {
      // Not allowed: the user moves it himself, and where he put it is remembered.
    }
  }

  /** The images go into a window of their own. @returns {boolean} whether the browser opened one */
  function detach() {
    last = stage.last() ? hungOf(stage.last()) : last;
    detached = true;
    remember({ detached: true });
    stage.clear();
    root.classList.add("is-detached");
    set("lost");
    handlers.onDetached?.(true);
    return open();
  }

  /** Open the window, or load the one of that name anew. */
  function open() {
    opener = window.open(ADDRESS, WINDOW, features());
    if (opener) place(opener);
    return Boolean(opener);
  }

  const hungOf = ([studies, options, compared]) => ({ studies, options, compared });

  /** The images come back into this page. */
  function attach() {
    if (!detached) return;
    detached = false;
    remember({ detached: false });
    for (const { timer, reject } of waiting.values()) {
      clearTimeout(timer);
      reject(new Error("the images came back"));
    }
    waiting.clear();
    channel.postMessage({ to: "screen", desk: me, kind: "close" });
    opener?.close();
    opener = null;
    root.classList.remove("is-detached");
    handlers.onDetached?.(false);
    set("");
    if (subject && last) stage.show(subject, last.studies, last.options, last.compared);
  }

  const call = (name, ...args) => (detached ? request("call", { name, args }, CALLS_WITHIN) : stage.viewer[name](...args));

  root.classList.toggle("is-detached", detached);
  if (detached) stage.clear();

  return {
    /** Show an exam's studies, wherever the images are. */
    show(whose, studies, options = {}, compared = "") {
      subject = whose;
      last = { studies, options, compared };
      if (!detached) return stage.show(whose, studies, options, compared);
      send();
      return look();
    },
    /** This exam beside an earlier one. */
    compare(study, title) {
      return this.show(subject, [subject.studies[0], study], { hangingProtocolId: "hubCompare" }, title);
    },
    detach,
    open,
    attach,
    detached: () => detached,
    follow: send,
    look,
    place: here,
    focus() {
      if (detached) channel.postMessage({ to: "screen", desk: me, kind: "focus" });
      else stage.frame.focus();
    },
    holdsFocus: () => !detached && document.activeElement === stage.frame,
    idle: () => call("idle"),
    capture: (options) => call("capture", options),
    measure: (uid) => call("measure", uid),
    restore: (list) => call("restore", list),
    sync: (put, drop, seen) => call("sync", put, drop, seen),
    showImage: (reference) => call("showImage", reference),
  };
}
