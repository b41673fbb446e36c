// Charts of a period. Every bar leads to the exams behind it.
import { data, duration, t } from "../i18n.js";

const chart = data("turnaround-data");
const groups = chart.groups ?? [];
const STAGE_COLOURS = {
  upload: "#4b87c5",
  verify: "#6d5bb0",
  wait: "#e0a526",
  read: "#0b6478",
  review: "#2f9e8f",
  return: "#7a8a94",
  seen: "#c9543f",
};
const ROW = 26;

function lead(index, stage, late) {
  const query = new URLSearchParams(chart.filters);
  query.set(chart.parameter, groups[index].key);
  query.set("stage", stage);
  query.delete("late");
  if (late) query.set("late", late);
  location.assign(`/turnaround/exams?${query}`);
}

const minutes = (seconds) => (seconds === null ? null : Math.round(seconds / 6) / 10);
// A Chinese character is as wide as two letters.
function clip(text) {
  const most = /[\u3400-\u9fff]/.test(text) ? 14 : 28;
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function escape(text) {
  const box = document.createElement("i");
  box.textContent = text;
  return box.innerHTML;
}

// Five or six ticks at round times, not at round hundreds of minutes.
function step(most) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400];
  return steps.find((minutes) => most / minutes <= 6) ?? Math.ceil(most / 86400) * 14400;
}

function frame(most) {
  const percent = most === null;
  const interval = percent ? 25 : step(most);
  return {
    grid: { left: 8, right: 28, top: 34, bottom: 8, containLabel: true },
    legend: { top: 0, left: 0, itemWidth: 12, itemHeight: 12, itemGap: 14 },
    xAxis: {
      type: "value",
      min: 0,
      max: percent ? 100 : Math.max(interval, Math.ceil(most / interval) * interval),
      interval,
      axisLabel: { formatter: (value) => (percent ? `${value}%` : axis(value)), hideOverlap: true },
      splitLine: { lineStyle: { color: "#e6edf1" } },
    },
    yAxis: {
      type: "category",
      inverse: true,
      data: groups.map((group) => group.label),
      axisTick: { show: false },
      axisLabel: { formatter: clip },
    },
  };
}

// Ticks in minutes, said in hours or days where that is shorter.
function axis(value) {
  if (value >= 2880) return t("{n} 天", { n: Math.round(value / 144) / 10 });
  if (value >= 120 || (value && value % 60 === 0)) return t("{n} 小时", { n: Math.round(value / 6) / 10 });
  return t("{n} 分", { n: value });
}

function tip(index, lines) {
  const rows = lines.map(([colour, name, value]) => {
    const dot = colour
      ? `<span style="display:inline-block;width:10px;height:10px;margin-right:6px;border-radius:2px;background:${colour}"></span>`
      : "";
    return `<div>${dot}${escape(name)} <b>${escape(value)}</b></div>`;
  });
  const count = t("{n} 项", { n: groups[index].exams });
  return `<b>${escape(groups[index].label)}</b> · ${escape(count)}${rows.join("")}`;
}

function stagesOption() {
  const stages = chart.stages.filter((stage) => stage !== "report");
  const whole = (group) => stages.reduce((sum, stage) => sum + group.cells[stage].total, 0) / Math.max(1, group.exams);
  const most = Math.max(1, ...groups.map((group) => minutes(whole(group))));
  return {
    ...frame(most),
    tooltip: {
      trigger: "axis",
      axisPointer: { type: "shadow" },
      formatter: (found) => {
        const index = found[0].dataIndex;
        const { cells } = groups[index];
        return tip(
          index,
          stages
            .filter((stage) => cells[stage].n)
            .map((stage) => {
              const sum = t("合计 {sum}", { sum: duration(cells[stage].total) });
              const mean = duration(cells[stage].total / groups[index].exams);
              return [STAGE_COLOURS[stage], chart.names[stage], `${mean} (${sum})`];
            }),
        );
      },
    },
    series: stages.map((stage) => ({
      id: stage,
      name: chart.names[stage],
      type: "bar",
      stack: "all",
      barMaxWidth: 18,
      cursor: "pointer",
      itemStyle: { color: STAGE_COLOURS[stage] },
      // Sums add up where medians do not: a bar is the mean of the whole way.
      data: groups.map((group) => minutes(group.cells[stage].total / Math.max(1, group.exams))),
    })),
  };
}

function timesOption(stage) {
  const limit = chart.limits[stage];
  const most = Math.max(limit ?? 1, ...groups.map((group) => minutes(group.cells[stage].p90) ?? 0));
  return {
    ...frame(most),
    tooltip: {
      trigger: "axis",
      axisPointer: { type: "shadow" },
      formatter: (found) => {
        const index = found[0].dataIndex;
        const cell = groups[index].cells[stage];
        return cell.n
          ? tip(index, [
              ["#0b6478", t("中位数"), duration(cell.median)],
              ["#9fcad3", "P90", duration(cell.p90)],
              ["", t("已完成"), t("{n} 项", { n: cell.n })],
            ])
          : tip(index, [["", t("无数据"), ""]]);
      },
    },
    series: [
      {
        name: t("中位数"),
        type: "bar",
        barMaxWidth: 10,
        barGap: "10%",
        cursor: "pointer",
        itemStyle: { color: "#0b6478" },
        data: groups.map((group) => minutes(group.cells[stage].median)),
        markLine: limit
          ? {
              silent: true,
              symbol: "none",
              lineStyle: { color: "#b0201c", type: "dashed" },
              label: { formatter: t("目标"), position: "end", color: "#b0201c" },
              data: [{ xAxis: limit }],
            }
          : undefined,
      },
      {
        name: "P90",
        type: "bar",
        barMaxWidth: 10,
        cursor: "pointer",
        itemStyle: { color: "#9fcad3" },
        data: groups.map((group) => minutes(group.cells[stage].p90)),
      },
    ],
  };
}

function shareOption(stage) {
  const base = frame(null);
  return {
    ...base,
    // The rows are those of the chart on its left, which names them.
    yAxis: { ...base.yAxis, axisLabel: { show: false } },
    tooltip: {
      trigger: "axis",
      axisPointer: { type: "shadow" },
      formatter: (found) => {
        const index = found[0].dataIndex;
        const cell = groups[index].cells[stage];
        return tip(
          index,
          cell.share === null
            ? [["", t("无数据"), ""]]
            : [
                ["", t("时限内比例"), `${(cell.share * 100).toFixed(1)}%`],
                ["", t("应完成"), t("{n} 项", { n: cell.due })],
              ],
        );
      },
    },
    series: [
      {
        name: t("时限内比例"),
        type: "bar",
        barMaxWidth: 16,
        cursor: "pointer",
        data: groups.map((group) => {
          const { share } = group.cells[stage];
          if (share === null) return { value: null };
          return {
            value: Math.round(share * 1000) / 10,
            itemStyle: { color: share >= 0.95 ? "#2f9e8f" : share >= 0.8 ? "#e0a526" : "#c9543f" },
            label: { color: share >= 0.8 && share < 0.95 ? "#16242f" : "#fff" },
          };
        }),
        label: { show: true, position: "insideLeft", color: "#fff", formatter: ({ value }) => (value === null ? "" : `${value}%`) },
      },
    ],
    legend: { ...base.legend, selectedMode: false, itemStyle: { color: "#2f9e8f" } },
  };
}

async function start() {
  const { draw } = await import("../chart.js");
  const boxes = ["chart-stages", "chart-times", "chart-share"].map((id) => document.getElementById(id));
  if (boxes.some((box) => !box)) return;
  for (const box of boxes) box.style.height = `${Math.max(220, groups.length * ROW + 60)}px`;
  let stage = "report";
  draw(boxes[0], stagesOption(), (event) => lead(event.dataIndex, event.seriesId));
  const times = draw(boxes[1], timesOption(stage), (event) => lead(event.dataIndex, stage));
  const share = draw(boxes[2], shareOption(stage), (event) => lead(event.dataIndex, stage, "late"));
  const chips = [...document.querySelectorAll("button[data-stage]")];
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      stage = chip.dataset.stage;
      for (const other of chips) other.setAttribute("aria-pressed", String(other === chip));
      times.setOption(timesOption(stage), { replaceMerge: ["series"] });
      share.setOption(shareOption(stage), { replaceMerge: ["series"] });
    });
  }
}

if (groups.length) start();
