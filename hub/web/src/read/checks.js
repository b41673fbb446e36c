// What the checks say of the text, while it is written and before it leaves: see the passage, mend it, or answer and keep it.
import { api, post } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { $ } from "./page.js";

const PAUSE = 900;

export function attach(page) {
  const dialog = $("checks-dialog");
  let found = { findings: [], not_run: [], standing: 0 };
  let asked = 0;
  let timer = 0;
  let at = -1;
  /** Answers given while submitting or signing; they go with that request. */
  let given = new Map();

  const standing = () => found.findings.filter((one) => one.level === "warn" && !one.override && !given.has(one.fingerprint));

  // --- asking ---

  async function check() {
    clearTimeout(timer);
    if (page.exam.mode === "view") return true;
    const mine = ++asked;
    const { technique, comparison, findings, impression, recommendation, positive, critical } = page.collect();
    try {
      const json = { technique, comparison, findings, impression, recommendation, positive, critical };
      const answer = await post(`/api/exams/${page.exam.exam_id}/check`, json);
      if (mine === asked) {
        found = answer;
        draw();
      }
      return true;
    } catch (error) {
      if (mine === asked) failed(error);
      return false;
    }
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE);
  }

  function failed(error) {
    const box = $("checks");
    if (!box) return;
    box.hidden = false;
    const line = box.querySelector("[data-checks-failed]");
    line.hidden = false;
    line.textContent = t("检查没有运行:{reason}", { reason: error.message });
  }

  // --- showing ---

  function draw() {
    const box = $("checks");
    if (!box) return;
    const open = standing().length;
    const failing = found.not_run.length > 0;
    box.hidden = found.findings.length === 0 && !failing;
    box.querySelector("[data-checks-count]").textContent = open
      ? t("{n} 处提醒须修改或答复", { n: open })
      : found.findings.length > 0
        ? t("提醒都已答复")
        : "";
    box.querySelector("[data-checks-keys]").hidden = open === 0;
    box.querySelector("[data-checks-list]").replaceChildren(...found.findings.map(row));
    const line = box.querySelector("[data-checks-failed]");
    line.hidden = !failing;
    line.textContent = failing ? t("检查没有运行:{reason}", { reason: found.not_run.join(t("、")) }) : "";
  }

  function row(one) {
    const item = document.createElement("li");
    item.className = `check-row check-row--${one.override ? "answered" : one.level}`;
    item.dataset.check = one.code;
    const words = document.createElement("button");
    words.type = "button";
    words.className = "check-words";
    words.title = one.explanation;
    words.addEventListener("click", () => show(one));
    const head = document.createElement("span");
    head.className = "check-message";
    head.textContent = one.message;
    const why = document.createElement("small");
    why.textContent = one.override ? answerText(one.override) : one.explanation;
    words.append(head, why);
    item.append(words);
    if (one.level === "warn") item.append(one.override ? button(t("撤回答复"), () => reopen(one)) : button(t("答复提醒"), () => page.once(() => answerNow(one))));
    return item;
  }

  function button(text, deed) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "btn btn--sm";
    made.textContent = text;
    made.addEventListener("click", deed);
    return made;
  }

  const answerText = ({ why_text, reason, person }) => t("{person}:{why}", { person, why: reason ? `${why_text} · ${reason}` : why_text });

  /** Select the passage in its field; where the text has moved on since the check, the passage is looked for. */
  function show(one) {
    $("tab-report").click();
    const field = $(one.field || "findings");
    if (!field) return;
    let { start, end } = one;
    if (field.value.slice(start, end) !== one.passage) {
      start = field.value.indexOf(one.passage);
      end = start + one.passage.length;
    }
    if (start < 0) {
      field.focus();
      return;
    }
    // A field scrolls to its cursor when it is given the focus.
    field.blur();
    field.setSelectionRange(start, start);
    field.focus();
    field.setSelectionRange(start, end);
  }

  function next() {
    const list = standing().length > 0 ? standing() : found.findings;
    if (list.length === 0) {
      toast(t("没有提醒"), "info", 2);
      return;
    }
    at = (at + 1) % list.length;
    show(list[at]);
  }

  // --- answering ---

  /** Ask why a text stays: resolves to `{fingerprint, why, reason}`, or null where the doctor goes back to it. */
  function why(one, place = "") {
    return new Promise((resolve) => {
      let answer = null;
      const put = (name, text) => {
        const element = dialog.querySelector(`[data-check=${name}]`);
        element.textContent = text;
        element.hidden = !text;
      };
      for (const name of ["name", "message", "passage", "explanation"]) put(name, one[name]);
      put("place", place);
      const reason = $("check-reason");
      const other = dialog.querySelector("[data-check-other]");
      const send = dialog.querySelector("[data-check-send]");
      reason.value = "";
      other.hidden = true;
      send.hidden = true;
      const choose = (code) => {
        if (code !== "other") {
          answer = { fingerprint: one.fingerprint, why: code, reason: "" };
          dialog.close();
          return;
        }
        other.hidden = false;
        send.hidden = false;
        reason.focus();
      };
      const codes = page.exam.checks.why;
      dialog.querySelector("[data-check-why]").replaceChildren(
        ...codes.map(([code, text], index) => {
          const made = button("", () => choose(code));
          made.className = "btn check-why";
          const key = document.createElement("span");
          key.className = "kbd";
          key.textContent = String(index + 1);
          made.append(key, ` ${text}`);
          return made;
        }),
      );
      const onKey = (event) => {
        const code = codes[Number(event.key) - 1]?.[0];
        if (code && event.target !== reason && !event.ctrlKey && !event.altKey && !event.metaKey) {
          event.preventDefault();
          choose(code);
        }
      };
      const onSubmit = (event) => {
        event.preventDefault();
        if (reason.value.trim().length < 2) {
          toast(t("请写明理由"), "warn");
          reason.focus();
          return;
        }
        answer = { fingerprint: one.fingerprint, why: "other", reason: reason.value.trim() };
        dialog.close();
      };
      dialog.addEventListener("keydown", onKey);
      $("checks-form").addEventListener("submit", onSubmit);
      dialog.addEventListener(
        "close",
        () => {
          dialog.removeEventListener("keydown", onKey);
          $("checks-form").removeEventListener("submit", onSubmit);
          resolve(answer);
        },
        { once: true },
      );
      dialog.showModal();
      dialog.querySelector(".check-why")?.focus();
    });
  }

  /** Answer one warning of the text that is being written: the text is saved first, as the answer is about it. */
  async function answerNow(one) {
    if (!page.writes()) return;
    const answer = await why(one);
    if (!answer) {
      show(one);
      return;
    }
    if (page.dirty && !(await page.settled())) return;
    found = await post(`/api/exams/${page.exam.exam_id}/check/answers`, { lease: page.lease, answers: [answer] });
    asked += 1;
    draw();
    $(one.field || "findings")?.focus();
  }

  const reopen = (one) =>
    page.once(async () => {
      const address = `/api/exams/${page.exam.exam_id}/check/answers/${one.fingerprint}?lease=${encodeURIComponent(page.lease)}`;
      found = await api(address, { method: "DELETE" });
      asked += 1;
      draw();
    });

  /** All warnings one after another; false where the doctor goes back to the text. */
  async function answerAll() {
    const list = standing();
    for (const [index, one] of list.entries()) {
      const place = list.length > 1 ? `${index + 1} / ${list.length}` : "";
      const answer = await why(one, place);
      if (!answer) return one;
      given.set(answer.fingerprint, answer);
    }
    return null;
  }

  const payload = () => ({ payload: { answers: [...given.values()] } });

  for (const kind of ["submit", "sign", "preliminary"]) {
    page.before(kind, async () => {
      given = new Map();
      // A checker that cannot be reached stops nobody here: the hub decides.
      if (!(await check())) return null;
      const left = await answerAll();
      if (left) {
        setTimeout(() => show(left));
        return { veto: t("请核对:{message}", { message: left.message }) };
      }
      if (kind === "sign") again();
      return given.size > 0 ? payload() : null;
    });
    page.refused(kind, async (error) => {
      if (error.code !== "checks") return null;
      given = new Map();
      if (!(await check()) || standing().length === 0) return null;
      return (await answerAll()) ? null : payload().payload;
    });
  }

  /** What was answered, once more beside the text that is about to be signed. */
  function again() {
    const box = document.querySelector("[data-sign-checks]");
    if (!box) return;
    const lines = found.findings.map((one) => {
      const mine = given.get(one.fingerprint);
      const said = mine ? mine.reason || new Map(page.exam.checks.why).get(mine.why) : one.override ? answerText(one.override) : t("只提示");
      const line = document.createElement("li");
      line.textContent = `${one.message} — ${said}`;
      return line;
    });
    box.hidden = lines.length === 0;
    box.querySelector("ul").replaceChildren(...lines);
  }

  // --- when ---

  page.on("panel", () => {
    found = { findings: [], not_run: [], standing: 0 };
    given = new Map();
    at = -1;
    asked += 1;
    if (page.exam.mode !== "view" && page.version) soon();
  });
  page.on("change", soon);

  page.key("Alt+j", t("到下一处提醒"), next);
  page.key("Alt+o", t("答复这处提醒,保留文字"), () => {
    const list = standing();
    if (list.length > 0) page.once(() => answerNow(list[Math.max(0, Math.min(at, list.length - 1))]));
    else toast(t("没有提醒"), "info", 2);
  });
}
