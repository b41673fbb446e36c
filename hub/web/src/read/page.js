// The frame of the reading page: which exam stands in it, its text, and what features hang on to it. It knows none of them.
import { ApiError, api, post } from "../api.js";
import { data } from "../i18n.js";
import { onKey, tick, toast } from "../ui.js";

/** The report's texts, in printing order; each is a field of the form with this id. */
export const TEXTS = ["technique", "comparison", "findings", "impression", "recommendation"];

export const $ = (id) => document.getElementById(id);

const panel = $("panel");
const events = new Map();
const acts = new Map();
const fields = new Map();
const vetoes = new Map();
const refusals = new Map();
let cursor = null;

export const page = {
  /** The panel's data: the exam, and of each feature what its part gave as `data` (`page.exam.<feature>`). */
  exam: {},
  /** The version in the form as the hub answered last, and the revision its text is based on. */
  version: null,
  revision: 0,
  /** Token of one's lease; empty for an addendum, or before the claim is answered. */
  lease: "",
  lost: false,
  /** Whether something was typed that the hub has not acknowledged. */
  dirty: false,
  busy: false,
  claiming: null,
  panel,

  /** Whether the form may be written into. */
  writes: () => page.exam.mode !== "view" && !page.lost,

  // --- events: panel, change, input, taken, saved, adopt, submitted, signed, lost ---

  on(event, handler) {
    events.set(event, [...(events.get(event) ?? []), handler]);
  },
  emit(event, detail) {
    for (const handler of events.get(event) ?? []) handler(detail);
  },

  // --- deeds and keys ---

  /** What a click on `<… data-act="name">` in the panel does. */
  act(name, handler) {
    acts.set(name, handler);
  },
  do: (name, button) => acts.get(name)?.(button),
  /** A key, shown with its text on "?". */
  key: onKey,

  /** One deed at a time; what the hub answers to it is told. */
  async once(work) {
    if (page.busy) return;
    page.busy = true;
    try {
      // A deed names the lease: before the claim is answered it would be refused as another reader's.
      if (page.claiming) await page.claiming;
      await work();
    } catch (error) {
      await page.told(error);
    } finally {
      page.busy = false;
    }
  },
  /** Tell of a failed call: the lease and conflicts by their own dialogs, all else as a message. */
  async told(error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "lease-lost") page.lose(error.message);
    else if (error.code === "revision-conflict" && error.problem.current) await page.conflict(error);
    else toast(error.message, "bad");
  },

  // --- the text ---

  text: {
    get: (name) => $(name)?.value ?? "",
    /** Put a text in the place of what a field holds; Ctrl+Z takes it back. */
    set(name, text) {
      const element = $(name);
      if (!element || element.value === text) return;
      element.setSelectionRange(0, element.value.length);
      put(element, text);
    },
  },
  /**
   * Write where the cursor stands or stood last, in the findings where it stood nowhere.
   * @param {string} text
   * @param {object} options `name`: another field than the cursor's
   * @returns {boolean} whether it was written
   */
  insert(text, { name = "" } = {}) {
    if (!page.writes()) return false;
    const element = $(name || cursor?.name || "findings");
    if (!element) return false;
    put(element, text);
    return true;
  },

  /**
   * Something of the draft besides its texts: `read()` gives its value for saving, `write(value)` shows one (left out: it
   * comes with "taken" only), `norm(value)` makes two of them comparable.
   */
  field(name, { read, write = null, norm = (value) => value ?? null }) {
    fields.set(name, { read, write, norm });
  },
  /** The draft as it stands in the form. */
  collect() {
    const body = Object.fromEntries(TEXTS.map((name) => [name, page.text.get(name)]));
    for (const [name, { read }] of fields) body[name] = read();
    return body;
  },
  /** Show a draft; key images stay. */
  fill(body) {
    for (const name of TEXTS) if ($(name)) $(name).value = body[name] ?? "";
    for (const [name, { write }] of fields) write?.(body[name]);
  },
  /** Whether two drafts say the same; `local`: as far as a browser keeps them. */
  same: (one, two, { local = false } = {}) =>
    TEXTS.every((name) => (one[name] ?? "") === (two[name] ?? "")) &&
    [...fields].every(([name, { norm, write }]) => (local && !write) || JSON.stringify(norm(one[name])) === JSON.stringify(norm(two[name]))),
  /** To be called after anything of the draft has changed. */
  changed() {
    if (page.exam.mode !== "view") page.emit("change");
  },
  /** Take over what the hub answered to a save. */
  take(answer) {
    page.version = answer;
    page.revision = answer.revision;
    page.emit("taken", answer);
  },

  // --- before submitting and signing ---

  /**
   * Ask before a report is submitted or signed.
   * @param {"submit" | "sign"} kind
   * @param handler async ({ kind, body }) → nothing: go on; `{ veto: text, focus: element }`: not now, because;
   *   `{ payload: {…} }`: go on, with these entries in the request's JSON
   */
  before(kind, handler) {
    vetoes.set(kind, [...(vetoes.get(kind) ?? []), handler]);
  },
  /** The payload that all agree to; null where one objects, which was told. */
  async asked(kind) {
    let payload = {};
    for (const handler of vetoes.get(kind) ?? []) {
      const found = await handler({ kind, body: page.collect() });
      if (found?.veto) {
        toast(found.veto, "warn");
        found.focus?.focus();
        return null;
      }
      payload = { ...payload, ...found?.payload };
    }
    return payload;
  },
  /** What to do where the hub refuses: handler async (error) → payload to try once more with, or nothing. */
  refused(kind, handler) {
    refusals.set(kind, [...(refusals.get(kind) ?? []), handler]);
  },
  /** Send a deed with its payload; where the hub refuses and a feature knows an answer, once more with that. */
  async send(kind, url, body, payload) {
    for (;;) {
      try {
        return await post(url, { ...body, ...payload });
      } catch (error) {
        let more = null;
        for (const handler of refusals.get(kind) ?? []) more ??= await handler(error);
        if (!more) throw error;
        payload = { ...payload, ...more };
      }
    }
  },

  /** Whether the exam is being claimed and its form fetched: what comes then shows whatever changed meanwhile. */
  opening: false,

  // --- panels come and go ---

  /** Another exam into the page, with the lease that was got for it. */
  async go(id, token = "") {
    page.lease = token;
    await fetchPanel(id);
    history.pushState({ exam: id }, "", `/read/${id}`);
    await start();
  },
  /** The same exam as the hub has it now. */
  async reload({ claim = false, keepLease = false } = {}) {
    if (!keepLease) page.lease = "";
    if (claim) await page.claim();
    await fetchPanel(page.exam.exam_id);
    await start({ claimed: true });
  },
  /** The panel's data as the hub has it now, without showing it. */
  async latest() {
    const html = await api(`/read/${page.exam.exam_id}/panel`, { headers: { Accept: "text/html" } });
    return JSON.parse(new DOMParser().parseFromString(html, "text/html").getElementById("read-data").textContent);
  },
  start: () => start(),
};

/** Write over the selection as typing would: with an entry for Ctrl+Z, and the input event. */
function put(element, text) {
  const before = document.activeElement;
  element.focus({ preventScroll: true });
  if (element.value === "" && text === "") return;
  if (!document.execCommand(text === "" ? "delete" : "insertText", false, text)) {
    element.setRangeText(text, element.selectionStart, element.selectionEnd, "end");
    element.dispatchEvent(new Event("input", { bubbles: true }));
  }
  if (before instanceof HTMLElement && !panel.contains(before) && before !== document.body) before.focus({ preventScroll: true });
}

let kept = { tab: "", focus: "" };

async function fetchPanel(id) {
  const html = await api(`/read/${id}/panel`, { headers: { Accept: "text/html" } });
  // Whoever already writes to the clinic, or looks at something else than the report, goes on there.
  const same = id === page.exam.exam_id;
  const tab = same ? (panel.querySelector("[role=tab][aria-selected=true]")?.id ?? "") : "";
  kept = { tab: tab === "tab-report" ? "" : tab, focus: same && panel.contains(document.activeElement) ? document.activeElement.id : "" };
  panel.innerHTML = html;
  tick(panel);
}

async function start({ claimed = false } = {}) {
  const exam = data("read-data");
  page.exam = exam;
  page.version = exam.version;
  page.revision = exam.mode === "view" ? 0 : (exam.version?.revision ?? 0);
  page.dirty = false;
  page.lost = false;
  cursor = null;
  document.title = `${exam.patient} · ${exam.exam}`;
  if (exam.mode !== "view") open();
  page.emit("panel");
  // The form is ready before the claim is answered: what is typed meanwhile stays.
  if (kept.tab && $(kept.tab)) {
    $(kept.tab).click();
    if (kept.focus) $(kept.focus)?.focus({ preventScroll: true });
  } else if (exam.mode !== "view" && !document.querySelector("dialog[open]")) $("findings").focus({ preventScroll: true });
  kept = { tab: "", focus: "" };
  const viewed = new URLSearchParams(location.search).has("view");
  if (exam.claimable && !page.lease && !claimed && !viewed) {
    page.opening = true;
    try {
      if (!(await page.claim()) || exam.exam_id !== page.exam.exam_id) return;
      if (exam.mode === "view") {
        await fetchPanel(exam.exam_id);
        await start({ claimed: true });
      } else if (page.dirty) {
        page.changed();
      }
    } finally {
      page.opening = false;
    }
  }
}

function open() {
  page.fill(page.version ?? {});
  const form = $("report-form");
  form.addEventListener("input", (event) => {
    page.emit("input", event);
    page.changed();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("focusin", ({ target }) => {
    if (TEXTS.includes(target.name)) cursor = target;
  });
}

panel.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target.closest("[data-act]") : null;
  if (!target) return;
  target.closest("details[data-menu]")?.removeAttribute("open");
  page.do(target.dataset.act, target);
});
