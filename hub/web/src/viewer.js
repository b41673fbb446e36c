// The page's side of the viewer's frame; the other side is ohif/app-config.js.
import { locale } from "./i18n.js";

/**
 * The query of a viewer address. Without `hangingProtocolId` the viewer hangs by modality.
 * @param {string[]} studies StudyInstanceUIDs, the one to report first, then a prior
 * @param {object} options `initialSopInstanceUid`, `hangingProtocolId`
 */
export function viewerSearch(studies, options = {}) {
  const query = new URLSearchParams({ StudyInstanceUIDs: studies.join(","), lng: locale });
  for (const [name, value] of Object.entries(options)) if (value) query.set(name, value);
  return `?${query}`;
}

const OPENS_WITHIN = 90000;

const pause = (milliseconds, value) =>
  new Promise((done) => {
    setTimeout(done, milliseconds, value);
  });

/** The address for the frame's `src`. */
export function viewerUrl(studies, options) {
  return `/ohif/viewer${viewerSearch(studies, options)}`;
}

/**
 * Speak with the viewer in a frame.
 * @param {HTMLIFrameElement} frame shows /ohif/viewer…, or nothing yet: the first open() loads it
 * @param {object} handlers all optional: `onReady()`, `onStudy({studies, shown, stacks, volume, active, series, modality, patient})`,
 *   `onTouched()`, `onShown(viewportId)`, `onMeasurements(list, study)`, `onAnnotations(list, study, loaded)`, `onUnauthorised(status)`, `onHttpError(status)`
 */
export function connectViewer(frame, handlers = {}) {
  const waiting = new Map();
  let number = 0;
  let ready = false;
  const whenReady = [];

  function receive({ origin, source, data }) {
    if (origin !== location.origin || source !== frame.contentWindow || typeof data?.hub !== "string") return;
    if (data.hub === "reply") {
      const entry = waiting.get(data.id);
      waiting.delete(data.id);
      if (!entry) return;
      clearTimeout(entry.timer);
      if (data.ok) entry.resolve(data.result);
      else entry.reject(new Error(data.error));
    } else if (data.hub === "ready") {
      if (ready) return;
      ready = true;
      for (const run of whenReady.splice(0)) run();
      handlers.onReady?.();
    } else if (data.hub === "touched") handlers.onTouched?.();
    else if (data.hub === "study") handlers.onStudy?.(data);
    else if (data.hub === "shown") handlers.onShown?.(data.viewport);
    else if (data.hub === "measurements") handlers.onMeasurements?.(data.list, data.study);
    else if (data.hub === "annotations") handlers.onAnnotations?.(data.list, data.study, data.loaded);
    else if (data.hub === "key") document.body.dispatchEvent(new KeyboardEvent("keydown", { ...data, bubbles: true }));
    else if (data.hub === "http-error") {
      if (data.status === 401 || data.status === 403) handlers.onUnauthorised?.(data.status);
      else handlers.onHttpError?.(data.status);
    }
  }
  window.addEventListener("message", receive);
  // The viewer may have been ready before this script ran.
  frame.contentWindow?.postMessage({ hub: "call", id: 0, name: "hello" }, location.origin);

  function call(name, ...args) {
    return new Promise((resolve, reject) => {
      const send = () => {
        number += 1;
        const id = number;
        const timer = setTimeout(() => {
          waiting.delete(id);
          reject(new Error(`viewer: ${name} was not answered`));
        }, 20000);
        waiting.set(id, { resolve, reject, timer });
        frame.contentWindow.postMessage({ hub: "call", id, name, args }, location.origin);
      };
      if (ready) send();
      else whenReady.push(send);
    });
  }

  function load(studies, options) {
    ready = false;
    frame.src = viewerUrl(studies, options);
  }

  let turn = 0;

  /** The studies on the screen, once they are the wanted ones and no other; null where others were asked for since. */
  async function arrived(studies, mine) {
    const end = Date.now() + OPENS_WITHIN;
    while (mine === turn && Date.now() < end) {
      const shown = await Promise.race([call("onScreen").catch(() => []), pause(1000, [])]);
      if (mine === turn && shown.length > 0 && shown.every((one) => studies.includes(one))) return shown;
      await pause(60);
    }
    if (mine !== turn) return null;
    throw new Error("the viewer does not show the study");
  }

  return {
    /**
     * Show studies; without reloading once the viewer runs. What it says to show is compared with what was asked for,
     * and anything else loads the viewer anew.
     * @returns {Promise<string[] | null>} the studies on the screen; null where others were asked for meanwhile
     */
    async open(studies, options) {
      turn += 1;
      const mine = turn;
      if (ready) {
        const shown = await call("open", viewerSearch(studies, options)).catch(() => null);
        if (mine !== turn) return null;
        if (shown?.length > 0 && shown.every((one) => studies.includes(one))) return shown;
      }
      load(studies, options);
      return arrived(studies, mine);
    },
    /** The frame was loaded with these studies by its own address. */
    adopt(studies) {
      turn += 1;
      return arrived(studies, turn);
    },
    /** The frame's page is gone: the next open() loads the viewer. */
    forget() {
      turn += 1;
      ready = false;
    },
    /** Whether every image that was asked for is there. */
    idle: () => call("idle"),
    /** The active picture with its drawings and `stamp` burnt in: {blob, width, height, lines, study, series, sop, frame}. */
    capture: (options) => call("capture", options),
    /** [{uid, tool, label, text: [lines], statistics, study, series, sop, frame, frames, modality, series_number, image_number}] */
    measurements: () => call("measurements"),
    /** The marked measurement, else the last one, with its `drawing`; null where there is none. */
    measure: (uid) => call("measure", uid),
    /** Cornerstone's annotations as plain objects, to be kept and given back to restore(). */
    annotations: () => call("annotations"),
    restore: (list) => call("restore", list),
    /**
     * Drawings in the place of those of the same name, and those named away; but none that stands otherwise than `seen`
     * (name → what was drawn) says. Those: [{uid, drawing}], null where it was removed.
     */
    sync: (put, drop, seen) => call("sync", put, drop, seen),
    jump: (imageIndex) => call("jump", imageIndex),
    /** Bring an image up: {sop, frame, uid, drawing}; fails where it is not of the studies that are open. */
    showImage: (reference) => call("showImage", reference),
    /** PatientID of the images in the active viewport, which is the county's number. */
    patient: () => call("patient"),
    layout: (protocolId) => call("layout", protocolId),
    run: (command, options) => call("run", command, options),
    current: () => call("current"),
    close() {
      window.removeEventListener("message", receive);
    },
  };
}
