// Rebalancing beside the queue: what would be moved is fetched, chosen, and moved.
import { ApiError, get, post } from "./api.js";
import { t } from "./i18n.js";
import { toast } from "./ui.js";

export function startBalance() {
  const dialog = document.getElementById("balance-dialog");
  if (!dialog) return;
  const place = document.getElementById("balance-moves");
  const apply = document.getElementById("balance-apply");
  const from = document.getElementById("balance-from");
  const to = document.getElementById("balance-to");
  const reason = document.getElementById("balance-reason");
  let moves = [];

  const chosen = () => [...place.querySelectorAll("input:checked")].map((box) => moves[Number(box.value)]);
  const target = (move) => (to.value === "*" ? move.target : to.value || null);
  const targetName = (move) => {
    if (to.value === "*") return move.target_name || t("共享池");
    return to.value ? to.selectedOptions[0].textContent : t("共享池");
  };

  function draw() {
    const lines = moves.map((move, index) => {
      const label = document.createElement("label");
      label.className = "balance-move";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = String(index);
      box.checked = target(move) !== move.source;
      box.disabled = target(move) === move.source;
      const what = document.createElement("span");
      const head = document.createElement("span");
      head.className = "strong";
      head.textContent = `${move.exam} `;
      const where = document.createElement("span");
      where.textContent = ` ${move.source_name} → ${targetName(move)}`;
      const number = document.createElement("span");
      number.className = "muted mono";
      number.textContent = move.accession;
      const why = document.createElement("span");
      why.className = "small muted balance-why";
      why.textContent = move.why.join(t(";"));
      what.append(head, number, where, why);
      label.append(box, what);
      return label;
    });
    if (lines.length === 0) {
      const none = document.createElement("p");
      none.className = "muted";
      none.textContent = t("没有需要移动的检查。");
      lines.push(none);
    }
    place.replaceChildren(...lines);
    apply.disabled = chosen().length === 0;
  }

  async function load() {
    try {
      ({ moves } = await get(`/api/queue/balance?hospital=${encodeURIComponent(from.value)}`));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      moves = [];
      toast(error.message, "bad");
    }
    draw();
  }

  document.getElementById("open-balance").addEventListener("click", () => {
    dialog.showModal();
    load();
  });
  from.addEventListener("change", load);
  to.addEventListener("change", draw);
  place.addEventListener("change", () => {
    apply.disabled = chosen().length === 0;
  });
  document.getElementById("balance-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    apply.disabled = true;
    try {
      const wanted = chosen().map((move) => ({ exam_id: move.exam_id, source: move.source, target: target(move) }));
      const { moved } = await post("/api/queue/balance", { moves: wanted, reason: reason.value });
      const done = moved.filter((one) => one.moved).length;
      const left = moved.filter((one) => !one.moved);
      dialog.close();
      toast(t("已移动 {n} 份", { n: done }), "ok");
      if (left.length) toast(t("{n} 份没有移动:{why}", { n: left.length, why: [...new Set(left.map((one) => one.refusal))].join(t(";")) }), "warn");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "bad");
      apply.disabled = false;
    }
  });
}
