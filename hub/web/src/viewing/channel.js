// Between the report's page ("desk") and the window of the images ("screen"): a BroadcastChannel of one person's pages.
// From a desk: {to: "screen", desk, kind: "show" | "call" | "ask" | "bye" | "close", …}
// From a screen: {to: "desk", screen, kind: "here" | "reply" | "event" | "state" | "gone", …}
import { config } from "../i18n.js";

export const WINDOW = "hub-viewer";
export const ADDRESS = "/viewer";
const PLACE = "hub-viewer-window";

/** One's end of the channel. `take(message)` gets what is for `side`. */
export function openChannel(side, take) {
  const channel = new BroadcastChannel(`hub-viewer-${config.user ?? ""}`);
  channel.addEventListener("message", ({ data }) => {
    if (data?.to === side) take(data);
  });
  return channel;
}

/** What this workstation remembers of the window: {detached, left, top, width, height}. */
export function remembered() {
  try {
    return JSON.parse(localStorage.getItem(PLACE) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

export function remember(values) {
  if ("detached" in values) {
    // The hub asks too: a page without images of its own does not begin to load the viewer.
    document.cookie = `hub_images=${values.detached ? "window" : "page"}; path=/; max-age=31536000; samesite=lax`;
  }
  try {
    localStorage.setItem(PLACE, JSON.stringify({ ...remembered(), ...values }));
  } catch {
    // A browser that keeps nothing asks again the next time.
  }
}
