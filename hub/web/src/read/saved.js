// Every text of the report that was kept, and what changed between any two of them.
import { get, post } from "../api.js";
import { t } from "../i18n.js";
import { toast } from "../ui.js";
import { $, TEXTS } from "./page.js";

export function attach(page) {
  let texts = [];
  let chosen = null;
  let turn = 0;

  const EVENTS = {
    draft: t("草稿现在的文字"),
    submitted: t("提交审核时的文字"),
    signed: t("已签发的文字"),
    discarded: t("已放弃的版本"),
    overwritten: t("被后来的文字取代"),
    conflict: t("与另一窗口冲突的文字"),
    "lease-lost": t("失去占用时的文字"),
  };
  const time = (at) => new Date(at).toLocaleString([], { hour12: false });
  const bodyOf = (id) => (id === "form" ? page.collect() : (texts.find((one) => one.id === id)?.body ?? {}));

  async function show() {
    texts = (await get(`/api/exams/${page.exam.exam_id}/report/history`)).texts;
    if (texts.length === 0) {
      toast(t("还没有保存过的文字"), "info");
      return;
    }
    chosen = texts[0].id;
    const base = $("history-base");
    base.replaceChildren(
      new Option(t("不比较,只看原文"), ""),
      ...(page.exam.mode === "view" ? [] : [new Option(t("正文框里的文字"), "form")]),
      ...texts.map((one) => new Option(`${time(one.at)} ${one.person}`, one.id)),
    );
    // The last two, unless there is but one.
    base.value = texts[1]?.id ?? "";
    list();
    $("saved-dialog").showModal();
    $("history-list").focus();
    await draw();
  }

  function list() {
    $("history-list").replaceChildren(
      ...texts.map((one) => {
        const item = document.createElement("li");
        item.setAttribute("role", "option");
        item.setAttribute("aria-selected", String(one.id === chosen));
        item.textContent = EVENTS[one.event] ?? one.event;
        const small = document.createElement("small");
        const number = one.version === null ? "" : one.version > 0 ? t("第 {n} 版", { n: one.version }) : t("已放弃的版本");
        small.textContent = [time(one.at), one.person, number].filter(Boolean).join(" · ");
        item.append(small);
        item.addEventListener("click", () => select(one.id));
        return item;
      }),
    );
    $("history-list").querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    $("history-back").hidden = !page.writes();
  }

  function select(id) {
    chosen = id;
    list();
    draw();
  }

  async function draw() {
    turn += 1;
    const mine = turn;
    const base = $("history-base").value;
    const only = (body) => Object.fromEntries(TEXTS.map((name) => [name, body[name] ?? ""]));
    const after = only(bodyOf(chosen));
    const before = base ? only(bodyOf(base)) : after;
    const { fields } = await post("/api/texts/difference", { before, after });
    if (mine !== turn) return;
    const names = [t("检查技术"), t("对比"), t("检查所见"), t("诊断意见"), t("建议")];
    const nodes = [];
    TEXTS.forEach((name, index) => {
      if (!fields[name]) return;
      const head = document.createElement("div");
      head.className = "field-label";
      head.textContent = names[index];
      nodes.push(head);
      for (const one of fields[name]) {
        if (one.kind === "same") nodes.push(one.before);
        else {
          for (const [tag, text] of [["del", one.before], ["ins", one.after]]) {
            if (!text) continue;
            const element = document.createElement(tag);
            element.textContent = text;
            nodes.push(element);
          }
        }
      }
      nodes.push("\n\n");
    });
    if (base && base !== chosen && Object.values(fields).every((parts) => parts.every((one) => one.kind === "same"))) {
      const same = document.createElement("p");
      same.className = "muted";
      same.textContent = t("两份文字相同");
      nodes.unshift(same);
    }
    $("history-text").replaceChildren(...nodes);
  }

  $("history-base").addEventListener("change", draw);
  $("history-list").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const at = texts.findIndex((one) => one.id === chosen) + by;
    if (texts[at]) select(texts[at].id);
  });
  $("history-back").addEventListener("click", () => {
    page.fill({ ...page.collect(), ...bodyOf(chosen) });
    $("saved-dialog").close();
    page.changed();
    $("findings").focus();
  });

  const open = () => page.once(show);
  page.act("saved", open);
  page.key("Alt+y", t("历次文字与差异"), open);
}
