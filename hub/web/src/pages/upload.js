// Upload: declares a folder, sends what the hub does not have, three files at a time, and goes on after whatever
// comes between: a lost link, a reload, a restarted server.
import * as tus from "tus-js-client";
import { ApiError, csrfToken, get, post } from "../api.js";
import { forgetHandle, fromDrop, fromHandle, fromInput, recallHandle, rememberHandle } from "../folders.js";
import { bytes, config, data, duration, t } from "../i18n.js";
import { sha256 } from "../sha256.js";
import { ask, toast } from "../ui.js";

const PARALLEL = 3;
const HASH_BELOW = 128 << 20;
const KEEP_BELOW = 16 << 20;
const AHEAD = 48;
const ROWS_SHOWN = 150;
const MEMORY = `hub-upload-${config.user ?? ""}`;
const COMPANION =
  /\.(exe|dll|com|bat|cmd|msi|jar|html?|css|js|txt|xml|inf|ini|ico|cfg|chm|hlp|url|lnk|log|md5|cab|jpe?g|png|gif|bmp|tif|pdf|docx?|ttf|swf|json|sh|app|dat|db)$/i;

const page = data("upload-data");
const root = document.getElementById("upload");
const el = (name) => root.querySelector(`[data-${name}]`);

let batch = null;
let rows = [];
let paused = false;
let stopped = "";
let failure = null;
let running = 0;
let cursor = 0;
let started = 0;
const uploads = new Set();

/* --- remembering ----------------------------------------------------------------------------------------------- */

function remember() {
  localStorage.setItem(MEMORY, JSON.stringify({ batch: batch.id, exam: batch.exam_id, folder: rows[0]?.path.split("/")[0] ?? "" }));
}

function forget() {
  localStorage.removeItem(MEMORY);
  if (batch) forgetHandle(batch.id);
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(MEMORY)) ?? null;
  } catch {
    return null;
  }
}

/* --- what is shown --------------------------------------------------------------------------------------------- */

const STATES = {
  waiting: () => t("等待"),
  hashing: () => t("核对"),
  sending: () => t("上传中"),
  stored: () => t("已入库"),
  known: () => t("中心已有,未重传"),
  received: () => t("已收到,处理中"),
  refused: () => t("拒收"),
  ignored: () => t("略过"),
  error: () => t("等待重试"),
  expanded: () => t("已解压"),
};
const DONE = new Set(["stored", "known", "refused", "ignored", "expanded", "received"]);
const elements = new Map();

function paint(row) {
  const quiet = rows.length > ROWS_SHOWN && ["waiting", "stored", "known", "hashing", "ignored"].includes(row.state);
  let line = elements.get(row.id);
  if (quiet) {
    line?.remove();
    elements.delete(row.id);
    return;
  }
  if (!line) {
    line = document.createElement("div");
    line.className = "file-row";
    for (const name of ["file-name", "file-size", "file-state"]) {
      const cell = document.createElement("span");
      cell.className = name;
      line.append(cell);
    }
    const bar = document.createElement("progress");
    bar.className = "progress file-bar";
    line.append(bar);
    const reason = document.createElement("div");
    reason.className = "file-reason small";
    line.append(reason);
    elements.set(row.id, line);
    el("files").append(line);
  }
  const [name, size, state, bar, reason] = line.children;
  name.textContent = row.path;
  name.title = row.path;
  size.textContent = bytes(row.size);
  state.textContent = STATES[row.state]?.() ?? row.state;
  line.dataset.state = row.state;
  bar.hidden = row.state !== "sending";
  bar.max = Math.max(1, row.size);
  bar.value = row.sent;
  reason.textContent = row.reason ?? "";
  reason.hidden = !row.reason;
}

function count(state) {
  return rows.filter((row) => row.state === state).length;
}

let speedAt = 0;
let speedBytes = 0;
let speed = 0;

function paintSum() {
  const total = rows.reduce((sum, row) => sum + (row.state === "ignored" ? 0 : row.size), 0);
  const sent = rows.reduce((sum, row) => sum + (row.state === "ignored" ? 0 : DONE.has(row.state) ? row.size : row.sent), 0);
  const moved = rows.reduce((sum, row) => sum + row.moved, 0);
  const now = performance.now();
  if (now - speedAt > 1000) {
    const rate = ((moved - speedBytes) / (now - speedAt)) * 1000;
    speed = speedAt ? speed * 0.75 + Math.max(0, rate) * 0.25 : rate;
    speedAt = now;
    speedBytes = moved;
  }
  const images = rows.filter((row) => row.state !== "ignored").length;
  const done = rows.filter((row) => DONE.has(row.state) && row.state !== "ignored").length;
  el("bar").max = Math.max(1, total);
  el("bar").value = sent;
  el("numbers").textContent = t("{done} / {all} 个文件 · {sent} / {total}", { done, all: images, sent: bytes(sent), total: bytes(total) });
  const rest = total - sent;
  el("remaining").textContent =
    rest <= 0 ? "" : paused ? t("已暂停") : speed > 1000 && now - started > 3000 ? t("还需约 {time} · {speed}/秒", { time: duration(rest / speed), speed: bytes(speed) }) : t("正在估算剩余时间");
  el("files-count").textContent = rows.length > ROWS_SHOWN ? t("{n} 个,只列出进行中和有问题的", { n: rows.length }) : String(rows.length);
  const chips = [
    ["stored", "green"],
    ["known", "blue"],
    ["received", "cyan"],
    ["refused", "red"],
    ["ignored", "grey"],
    ["error", "amber"],
  ].filter(([state]) => count(state));
  el("counts").replaceChildren(
    ...chips.map(([state, tone]) => {
      const chip = document.createElement("span");
      chip.className = `badge badge--${tone}`;
      chip.textContent = `${STATES[state]()} ${count(state)}`;
      return chip;
    }),
  );
  const name = t("上传影像");
  document.title = total ? `${Math.floor((100 * sent) / total)}% · ${name}` : name;
}

let painting = 0;
function repaint(row) {
  paint(row);
  if (painting) return;
  painting = setTimeout(() => {
    painting = 0;
    paintSum();
  }, 150);
}

function trouble(text) {
  const box = el("offline");
  box.hidden = !text;
  box.querySelector(".grow").textContent = text;
}

function set(row, state, reason) {
  row.state = state;
  if (reason !== undefined) row.reason = reason;
  if (DONE.has(state)) {
    row.blob = null;
    row.sent = row.size;
  }
  repaint(row);
}

/* --- sending --------------------------------------------------------------------------------------------------- */

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Call the hub until it answers: only what a person must decide is thrown. */
async function persist(work) {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 20000)) {
    try {
      const result = await work();
      trouble("");
      return result;
    } catch (error) {
      const temporary = error instanceof ApiError && (error.status === 0 || error.status === 429 || (error.status >= 500 && error.code !== "disk-full"));
      if (!temporary) throw error;
      trouble(t("连接中断,正在自动重试;已经传到的部分不会丢,请不要关闭页面。"));
      await sleep(wait);
    }
  }
}

async function isDicom(file) {
  const mark = new Uint8Array(await file.slice(128, 132).arrayBuffer());
  return mark.length === 4 && String.fromCharCode(...mark) === "DICM";
}

async function describe(entries) {
  const found = [];
  for (const { file, path } of entries) {
    let dicom = true;
    if (COMPANION.test(path)) dicom = await isDicom(file).catch(() => false);
    found.push({ path: path.slice(0, 2000), size: file.size, dicom });
  }
  return found;
}

/** Hash the next files and ask which of them the hub has. */
async function lookAhead() {
  const next = [];
  let volume = 0;
  while (cursor < rows.length && next.length < AHEAD && volume < 96 << 20) {
    const row = rows[cursor];
    cursor += 1;
    if (row.state !== "waiting") continue;
    next.push(row);
    volume += row.size;
  }
  const hashes = {};
  for (const row of next) {
    if (row.offset > 0 || row.size > HASH_BELOW || /\.zip$/i.test(row.path)) continue;
    try {
      const buffer = await row.file.arrayBuffer();
      hashes[row.id] = await sha256(buffer);
      // Read once: small files are sent from what was hashed.
      if (row.size <= KEEP_BELOW) row.blob = new Blob([buffer]);
    } catch {
      set(row, "error", t("文件读不出来:可能已被移动或光盘有坏道,请重新选择"));
      row.broken = true;
    }
  }
  if (Object.keys(hashes).length) {
    const { known } = await persist(() => post(`/api/uploads/${batch.id}/known`, { files: hashes }));
    const have = new Set(known);
    for (const row of next) if (have.has(row.id)) set(row, "known");
  }
  return next.filter((row) => row.state === "waiting");
}

let ready = [];
let looking = null;

async function nextRow() {
  for (;;) {
    if (stopped) return null;
    while (paused) await sleep(300);
    const row = ready.shift();
    if (row) return row;
    if (cursor >= rows.length && !looking) return null;
    looking ??= lookAhead().then(
      (found) => {
        ready.push(...found);
        looking = null;
      },
      (error) => {
        looking = null;
        stop(error);
      },
    );
    await looking;
  }
}

function stop(error) {
  stopped = error?.code || "error";
  failure = error;
}

const statusOf = (error) => error?.originalResponse?.getStatus?.() ?? 0;

function sendOnce(row) {
  return new Promise((resolve, reject) => {
    let last = "";
    let before = row.sent;
    const upload = new tus.Upload(row.blob ?? row.file, {
      endpoint: "/api/tus",
      uploadUrl: row.offset > 0 || row.tried ? row.url : null,
      uploadDataDuringCreation: true,
      metadata: { file: row.id },
      chunkSize: page.chunk,
      retryDelays: null,
      storeFingerprintForResuming: false,
      headers: { "X-CSRF-Token": csrfToken() },
      onAfterResponse: (_request, response) => {
        last = response.getHeader("X-Upload-State") || last;
      },
      onProgress: (sent) => {
        row.moved += Math.max(0, sent - before);
        before = sent;
        row.sent = sent;
        repaint(row);
      },
      onSuccess: () => resolve(last || "received"),
      onError: reject,
    });
    row.upload = upload;
    row.tried = true;
    uploads.add(upload);
    upload.start();
  }).finally(() => uploads.delete(row.upload));
}

async function send(row) {
  for (let wait = 500; !stopped; wait = Math.min(wait * 2, 20000)) {
    while (paused) await sleep(300);
    set(row, "sending", "");
    try {
      const state = await sendOnce(row);
      trouble("");
      set(row, DONE.has(state) ? state : "received");
      if (row.state === "refused") reasonsSoon();
      return;
    } catch (error) {
      const status = statusOf(error);
      if (status === 401 || (status === 403 && error.originalResponse)) {
        set(row, "waiting");
        stop(new ApiError(t("登录已失效:请在新标签页重新登录,再回到这里继续"), status));
        return;
      }
      if (status === 413 || status === 422) {
        set(row, "error", t("服务器没有接收这个文件"));
        row.broken = true;
        return;
      }
      if (!status && error?.cause === undefined && /NotReadable|NotFound/.test(String(error))) {
        set(row, "error", t("文件读不出来:可能已被移动或光盘有坏道,请重新选择"));
        row.broken = true;
        return;
      }
      set(row, "error", "");
      row.offset = row.offset || 1;
      if (status === 404) row.offset = 0;
      trouble(status ? t("服务器暂时没有应答({status}),正在自动重试;已经传到的部分不会丢。", { status }) : t("连接中断,正在自动重试;已经传到的部分不会丢,请不要关闭页面。"));
      await sleep(wait);
    }
  }
}

async function sender() {
  running += 1;
  try {
    for (let row = await nextRow(); row; row = await nextRow()) await send(row);
  } finally {
    running -= 1;
  }
}

/* --- a batch --------------------------------------------------------------------------------------------------- */

let busy = false;

async function begin(entries, { batchId = null, handle = null } = {}) {
  if (busy || !entries.length) {
    if (!entries.length) toast(t("没有找到文件"), "warn");
    return;
  }
  busy = true;
  root.classList.add("is-busy");
  el("resume").hidden = true;
  el("choose-files").hidden = true;
  el("choose-exam").hidden = true;
  el("result").hidden = true;
  el("progress").hidden = false;
  el("title").textContent = t("正在核对文件");
  try {
    const files = await describe(entries);
    const exam = root.querySelector('input[name="exam"]:checked')?.value || null;
    const answer = await persist(() => post("/api/uploads", { exam_id: batchId ? null : exam, batch_id: batchId, files }));
    batch = answer;
    elements.clear();
    el("files").replaceChildren();
    rows = answer.files.map((row, at) => ({
      ...row,
      file: entries[at].file,
      state: row.state === "receiving" ? "waiting" : row.state,
      sent: row.state === "receiving" ? row.offset : row.size,
      moved: 0,
    }));
    cursor = 0;
    ready = [];
    stopped = "";
    failure = null;
    remember();
    if (handle) rememberHandle(batch.id, handle);
    const label = root.querySelector('input[name="exam"]:checked')?.closest("label")?.querySelector(".strong")?.textContent;
    el("for").textContent = exam && !batchId ? label : "";
    rows.forEach(paint);
    await run();
  } catch (error) {
    busy = false;
    root.classList.remove("is-busy");
    el("choose-files").hidden = false;
    el("choose-exam").hidden = false;
    el("progress").hidden = true;
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "batch-closed" || error.status === 404) forget();
    toast(error.message, "bad");
  }
}

async function run() {
  el("title").textContent = t("正在上传");
  el("pause").hidden = false;
  started = performance.now();
  speedAt = 0;
  paintSum();
  await Promise.all(Array.from({ length: PARALLEL }, sender));
  paintSum();
  if (stopped) {
    trouble(failure?.message ?? t("上传已停止"));
    el("title").textContent = t("上传已停止");
    el("pause").textContent = t("继续");
    el("pause").dataset.mode = "again";
    return;
  }
  await settle();
}

/** Wait until the hub has worked through archives, then reconcile. */
async function settle() {
  el("pause").hidden = true;
  for (;;) {
    const state = await persist(() => get(`/api/uploads/${batch.id}`));
    if (!state.counts.processing) break;
    el("title").textContent = t("已全部送达,中心正在处理 {n} 个文件", { n: state.counts.processing });
    await sleep(1500);
  }
  await close(false);
}

async function close(confirmShort) {
  let state;
  let short = false;
  try {
    state = await persist(() => post(`/api/uploads/${batch.id}/close`, { confirm_short: confirmShort }));
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "shortfall") throw error;
    short = true;
    state = await persist(() => get(`/api/uploads/${batch.id}?files=refused,ignored,receiving`));
  }
  busy = false;
  root.classList.remove("is-busy");
  if (!short) forget();
  show(state, short);
}

let reasonsAsked = 0;
function reasonsSoon() {
  if (reasonsAsked) return;
  reasonsAsked = setTimeout(async () => {
    reasonsAsked = 0;
    const state = await get(`/api/uploads/${batch.id}?files=refused,ignored`).catch(() => null);
    for (const file of state?.files ?? []) {
      const row = rows.find((one) => one.id === file.id);
      if (row) set(row, row.state === "received" ? "received" : file.state, file.reason);
    }
  }, 800);
}

/* --- the reconciliation ---------------------------------------------------------------------------------------- */

function button(text, tone, handler) {
  const made = document.createElement(typeof handler === "string" ? "a" : "button");
  made.className = `btn ${tone}`;
  made.textContent = text;
  if (typeof handler === "string") made.href = handler;
  else {
    made.type = "button";
    made.addEventListener("click", handler);
  }
  return made;
}

function show(state, short) {
  const { counts } = state;
  el("title").textContent = short ? t("没有全部入库") : t("上传完成");
  el("progress").querySelector("[data-files-details]").open = false;
  el("result").hidden = false;
  trouble("");
  const sum = [
    [t("发送"), counts.sent, ""],
    [t("入库"), counts.stored + counts.known, "tone-ok"],
    [t("拒收"), counts.refused, counts.refused ? "tone-bad" : ""],
  ];
  el("sum").replaceChildren(
    ...sum.map(([label, number, tone]) => {
      const cell = document.createElement("span");
      cell.className = "result-cell";
      const value = document.createElement("span");
      value.className = `result-number ${tone}`;
      value.textContent = String(number);
      cell.append(label, " ", value);
      return cell;
    }),
  );
  const more = [];
  if (counts.known) more.push(t("其中 {n} 个中心已有,没有重传", { n: counts.known }));
  if (counts.ignored) more.push(t("略过 {n} 个不是影像的文件", { n: counts.ignored }));
  const verdict = document.createElement("div");
  verdict.className = `alert alert--${short ? "bad" : "ok"}`;
  const words = document.createElement("div");
  words.className = "grow";
  words.textContent = [
    short
      ? t("申报 {n} 幅影像,还差 {short} 幅没有入库。请补传;确实只有这些时,请确认。", { n: counts.images, short: state.shortfall })
      : state.shortfall
        ? t("已确认:还差 {short} 幅,不再补传。", { short: state.shortfall })
        : t("申报 {n} 幅影像,全部入库,数量一致。", { n: counts.images }),
    ...more,
  ].join(" ");
  verdict.append(words);
  el("verdict").replaceChildren(verdict);

  const listed = state.files
    .filter((file) => file.reason || file.state === "receiving")
    .sort((a, b) => Number(a.state === "ignored") - Number(b.state === "ignored"));
  if (listed.length) {
    const table = document.createElement("div");
    table.className = "refused-list";
    for (const file of listed.slice(0, 300)) {
      const line = document.createElement("div");
      line.className = `refused-row refused-row--${file.state}`;
      const name = document.createElement("div");
      name.className = "mono small clip";
      name.textContent = file.path;
      name.title = file.path;
      const reason = document.createElement("div");
      const local = rows.find((row) => row.id === file.id)?.reason;
      reason.textContent = file.state === "receiving" ? local || t("没有传完") : file.reason;
      line.append(name, reason);
      table.append(line);
    }
    el("refused").replaceChildren(table);
  } else el("refused").replaceChildren();

  const actions = [];
  if (short) {
    if (rows.some((row) => row.state !== "refused" && !DONE.has(row.state) && !row.broken)) actions.push(button(t("重试没传完的"), "btn--primary", again));
    actions.push(button(t("重新选择文件,补传"), "btn--primary", () => pickAgain(batch.id)));
    actions.push(
      button(t("确认只有这些"), "", async () => {
        if (await ask(t("还差 {n} 幅影像。确认不再补传吗?阅片医生会看到数量不足。", { n: state.shortfall }), { yes: t("确认只有这些") })) await close(true);
      }),
    );
  }
  for (const exam of state.exams) {
    const todo = exam.incomplete.includes("registration");
    actions.push(button(todo ? t("补全登记:{name}", { name: exam.patient_name }) : t("查看检查:{name}", { name: exam.patient_name }), todo ? "btn--primary" : "", `/clinic/exams/${exam.id}${todo ? "/register" : ""}`));
  }
  if (!short) {
    actions.push(button(t("再传一批"), "", "/clinic/upload"));
    actions.push(button(t("登记下一位"), "", "/clinic/register"));
  }
  el("actions").replaceChildren(...actions);
  el("result").scrollIntoView({ block: "nearest" });
}

function again() {
  busy = true;
  stopped = "";
  failure = null;
  cursor = 0;
  ready = [];
  for (const row of rows) if (!DONE.has(row.state) && !row.broken) set(row, "waiting", "");
  el("result").hidden = true;
  trouble("");
  run();
}

/* --- choosing -------------------------------------------------------------------------------------------------- */

let continuing = null;

function pickAgain(batchId) {
  continuing = batchId;
  busy = false;
  pickFolder();
}

async function pickFolder() {
  if ("showDirectoryPicker" in window) {
    try {
      // eslint-disable-next-line compat/compat -- asked for above; without it the input below serves
      const handle = await window.showDirectoryPicker({ id: "hub-images" });
      await begin(await fromHandle(handle), { batchId: continuing, handle });
      return;
    } catch (error) {
      if (error.name === "AbortError") return;
    }
  }
  el("input-folder").click();
}

for (const name of ["input-folder", "input-files"]) {
  el(name).addEventListener("change", async (event) => {
    const entries = fromInput(event.target);
    event.target.value = "";
    await begin(entries, { batchId: continuing });
  });
}
el("pick-folder").addEventListener("click", () => {
  continuing = null;
  pickFolder();
});
el("pick-files").addEventListener("click", () => {
  continuing = null;
  el("input-files").click();
});

const zone = el("dropzone");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (!busy) zone.classList.add("is-over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) zone.classList.remove("is-over");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  zone.classList.remove("is-over");
  if (busy) return;
  const { files, handle } = await fromDrop(event.dataTransfer);
  await begin(files, { batchId: continuing, handle });
});

el("pause").addEventListener("click", () => {
  if (el("pause").dataset.mode === "again") {
    delete el("pause").dataset.mode;
    el("pause").textContent = t("暂停");
    again();
    return;
  }
  paused = !paused;
  el("pause").textContent = paused ? t("继续") : t("暂停");
  paintSum();
});

addEventListener("beforeunload", (event) => {
  if (running && !paused) event.preventDefault();
});

/* --- after a reload -------------------------------------------------------------------------------------------- */

async function offerResume() {
  const memory = remembered();
  const open = page.open.find((one) => one.id === memory?.batch) ?? page.open.find((one) => one.counts.files > 0);
  if (memory && !page.open.some((one) => one.id === memory.batch)) localStorage.removeItem(MEMORY);
  if (!open) return;
  const { counts } = open;
  const folder = memory?.batch === open.id ? memory.folder : "";
  el("resume").hidden = false;
  el("resume-text").textContent = t("{folder} 共 {n} 个文件,已入库 {stored} 个,还有 {rest} 个没有传完。已经传到的不会重传。", {
    folder: folder ? `“${folder}”` : "",
    n: counts.files,
    stored: counts.stored + counts.known,
    rest: counts.unsent,
  });
  const handle = await recallHandle(open.id);
  if (handle) {
    el("resume-go").hidden = false;
    el("resume-go").addEventListener("click", async () => {
      const granted = (await handle.queryPermission({ mode: "read" })) === "granted" || (await handle.requestPermission({ mode: "read" })) === "granted";
      if (!granted) return;
      await begin(await fromHandle(handle), { batchId: open.id, handle });
    });
  } else el("resume-pick").classList.add("btn--primary");
  el("resume-pick").addEventListener("click", () => pickAgain(open.id));
  el("resume-drop").addEventListener("click", async () => {
    if (!(await ask(t("没有传完的文件将不再补传。"), { yes: t("不再继续") }))) return;
    await post(`/api/uploads/${open.id}/close`, { confirm_short: true });
    localStorage.removeItem(MEMORY);
    await forgetHandle(open.id);
    location.reload();
  });
}

offerResume();
