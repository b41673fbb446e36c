// The second pair of eyes: the author's words with the reviewer's changes, each to be accepted or taken back; his grade;
// the preliminary report, and whether its conclusion still holds; taking one's own report back.
import { ApiError, api, post } from "../api.js";
import { t } from "../i18n.js";
import { ask } from "../ui.js";
import { difference } from "./difference.js";
import { TEXTS } from "./page.js";

/** The pieces of a difference with what lies together joined: [{same}, {was, now}, …]. */
function changes(before, after) {
  const found = [];
  for (const [kind, text] of difference(before, after)) {
    const last = found.at(-1);
    if (kind === "=") {
      // One character between two changes is read with them.
      found.push({ same: text });
      continue;
    }
    let open = last && !("same" in last) ? last : null;
    const before2 = found.at(-2);
    if (!open && last && [...last.same].length === 1 && !/[\s,\uff0c\u3002;\uff1b]/u.test(last.same) && before2 && !("same" in before2)) {
      found.pop();
      before2.was += last.same;
      before2.now += last.same;
      open = before2;
    }
    if (!open) found.push((open = { was: "", now: "" }));
    if (kind === "-") open.was += text;
    else open.now += text;
  }
  return found.reduce((joined, piece) => {
    const last = joined.at(-1);
    if ("same" in piece && last && "same" in last) last.same += piece.same;
    else joined.push({ ...piece });
    return joined;
  }, []);
}

// What the server compares: the words of a conclusion, without blanks and the marks between sentences.
const plain = (text) => text.replace(/[\s\u3001\u3002\uff0c\uff1a\uff1b;:]+|(?<!\d)[.,]|[.,](?!\d)/gu, "").toLowerCase();

export function attach(page) {
  const { panel } = page;
  const accepted = new Set();
  // Outlives the panel, which others may have fetched anew.
  let on = false;
  const $ = (selector) => panel.querySelector(selector);
  const chosen = (name) => $(`[name=${name}]:checked`)?.value ?? "";

  // --- tracked changes ------------------------------------------------------------------------------------------

  function originalOf(name) {
    return page.exam.review.original?.[name] ?? "";
  }

  function button(label, title, deed) {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = label;
    element.title = title;
    element.setAttribute("aria-label", title);
    element.addEventListener("click", deed);
    return element;
  }

  function drawn(name, piece, index, pieces) {
    if ("same" in piece) return document.createTextNode(piece.same);
    const key = `${name}|${piece.was}|${piece.now}`;
    if (accepted.has(key)) return document.createTextNode(piece.now);
    const box = document.createElement("span");
    box.className = "change";
    for (const [tag, text] of [["del", piece.was], ["ins", piece.now]]) {
      if (!text) continue;
      const element = document.createElement(tag);
      element.textContent = text;
      box.append(element);
    }
    box.append(
      button("✓", t("保留这处改动"), () => {
        accepted.add(key);
        show();
      }),
      button("↶", t("撤销这处改动,恢复作者原文"), () => {
        page.text.set(name, pieces.map((one, place) => ("same" in one ? one.same : place === index ? one.was : one.now)).join(""));
        show();
      }),
    );
    return box;
  }

  function show() {
    if (!page.exam.review?.original) return;
    let count = 0;
    const pressed = $("[data-act=original]");
    pressed?.setAttribute("aria-pressed", String(on));
    pressed?.classList.toggle("is-on", on);
    for (const box of panel.querySelectorAll("[data-original]")) {
      const name = box.dataset.original;
      const pieces = changes(originalOf(name), page.text.get(name));
      const changed = pieces.filter((piece) => !("same" in piece)).length;
      count += changed;
      box.hidden = !on || !changed;
      if (!box.hidden) box.replaceChildren(...pieces.map((piece, index) => drawn(name, piece, index, pieces)));
    }
    const badge = $("[data-change-count]");
    if (badge) badge.textContent = String(count);
  }

  const toggle = () => {
    on = !on;
    show();
  };
  page.act("original", toggle);
  page.key("Alt+r", t("我的改动"), toggle);
  page.on("change", show);

  page.act("author-text", async () => {
    if (!(await ask(t("把正文恢复为作者提交时的文字?您的改动可以用撤销键找回。"), { yes: t("恢复") }))) return;
    for (const name of TEXTS) if (page.text.get(name) !== originalOf(name)) page.text.set(name, originalOf(name));
    show();
  });

  // --- grade and conclusion -------------------------------------------------------------------------------------

  function score() {
    const agreement = chosen("agreement");
    if (agreement === "agree") return "1";
    const significant = chosen("significant");
    return agreement && significant ? (agreement === "minor" ? "2" : "3") + (significant === "yes" ? "b" : "a") : "";
  }

  function opinion() {
    const agreement = score() ? chosen("agreement") : "";
    const changed = chosen("conclusion");
    const note = $("[name=conclusion_note]")?.value ?? "";
    return {
      agreement,
      significant: agreement && agreement !== "agree" ? chosen("significant") === "yes" : null,
      note: $("[name=review_note]")?.value ?? "",
      conclusion_changed: changed === "yes" && !note.trim() ? null : changed ? changed === "yes" : null,
      conclusion_note: changed === "yes" ? note : "",
    };
  }

  function parts() {
    const agreement = chosen("agreement");
    const difference_ = $("[data-difference]");
    if (difference_) difference_.hidden = !agreement || agreement === "agree";
    const note = $("[data-conclusion-note]");
    if (note) note.hidden = chosen("conclusion") !== "yes";
    const place = $("[data-score]");
    if (place) place.textContent = score() ? `RADPEER ${score()}` : "";
  }

  page.on("panel", () => {
    accepted.clear();
    const mine = page.exam.review?.mine;
    const pick = (name, value) => {
      const radio = $(`[name=${name}][value="${value}"]`);
      if (radio) radio.checked = true;
    };
    if (mine) {
      if (mine.agreement) pick("agreement", mine.agreement);
      if (mine.significant !== null) pick("significant", mine.significant ? "yes" : "no");
      if (mine.conclusion_changed !== null) pick("conclusion", mine.conclusion_changed ? "yes" : "no");
      for (const [name, text] of [["review_note", mine.note], ["conclusion_note", mine.conclusion_note]]) {
        const field = $(`[name=${name}]`);
        if (field) field.value = text;
      }
    }
    parts();
    show();
  });

  panel.addEventListener("change", async (event) => {
    if (!event.target.closest("[data-grade], [data-conclusion]")) return;
    parts();
    event.target.closest(".review-box").classList.remove("is-asked");
    if (!page.version || !page.holds()) return;
    try {
      await api(`/api/reports/${page.version.version_id}/review`, { method: "PUT", json: { lease: page.lease, ...opinion() } });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // The signature sends it again, and says then what is wrong with it.
    }
  });
  for (const [index, value] of ["agree", "minor", "disagree"].entries()) {
    page.key(`Alt+${index + 7}`, [t("评定:符合"), t("评定:基本符合"), t("评定:不符合")][index], () => {
      $(`[name=agreement][value=${value}]`)?.click();
      if (value !== "agree") $("[name=significant]")?.focus();
    });
  }

  function asked(box, text, focus) {
    box.classList.add("is-asked");
    box.scrollIntoView({ block: "nearest" });
    return { veto: text, focus };
  }

  page.before("sign", async ({ body }) => {
    const { preliminary, grades, required } = page.exam.review ?? {};
    const box = $("[data-grade]");
    if (grades && box) {
      const agreement = chosen("agreement");
      if (agreement && !score()) return asked(box, t("请说明差异有没有临床意义"), $("[name=significant]"));
      if (required && !agreement) return asked(box, t("请先评定符合程度"), $("[name=agreement]"));
    }
    const given = opinion();
    const place = $("[data-conclusion]");
    if (preliminary && place && page.exam.mode !== "edit") {
      const differs = plain(preliminary.impression) !== plain(body.impression) || preliminary.positive !== body.positive || preliminary.critical !== (page.version?.critical ?? body.critical);
      if (differs && !chosen("conclusion")) return asked(place, t("正式报告与急诊报告不同:请说明结论有没有改变"), $("[name=conclusion]"));
      if (chosen("conclusion") === "yes" && !given.conclusion_note.trim()) return asked(place, t("请说明结论改变了什么"), $("[name=conclusion_note]"));
    }
    return grades || preliminary ? { payload: { review: given } } : null;
  });

  page.refused("sign", async (error) => {
    if (error.code !== "conclusion-differs") return null;
    const agreed = await ask(error.message, { title: t("结论有没有改变"), yes: t("确认未改变"), no: t("返回修改") });
    return agreed ? { review: { ...opinion(), conclusion_confirmed: true } } : null;
  });

  // --- back from review -----------------------------------------------------------------------------------------

  page.act("withdraw", () =>
    page.once(async () => {
      const answer = await post(`/api/exams/${page.exam.exam_id}/withdraw`);
      page.lease = answer?.lease ?? "";
      await page.reload({ keepLease: true });
    }),
  );
}
