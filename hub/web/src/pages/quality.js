// Image quality over time, and its targets.
import { put } from "../api.js";
import { onSubmit, texts } from "../forms.js";
import { data, t } from "../i18n.js";

const COLOURS = { grade_a: "#2f9e8f", reject: "#c9543f", artefact: "#6d5bb0" };
const box = document.getElementById("chart-weeks");

if (box) {
  const { weeks, series } = data("quality-data");
  const { draw } = await import("../chart.js");
  draw(box, {
    grid: { left: 8, right: 24, top: 34, bottom: 8, containLabel: true },
    legend: { top: 0, left: 0, itemWidth: 14, itemHeight: 10 },
    tooltip: { trigger: "axis", valueFormatter: (value) => (value === null || value === undefined ? t("无数据") : `${value}%`) },
    xAxis: { type: "category", data: weeks, axisLabel: { hideOverlap: true } },
    yAxis: { type: "value", min: 0, max: 100, axisLabel: { formatter: "{value}%" } },
    series: series.map(({ name, key, values, target }) => ({
      type: "line",
      name,
      data: values,
      connectNulls: false,
      showSymbol: true,
      color: COLOURS[key],
      markLine: {
        silent: true,
        symbol: "none",
        label: { show: false },
        lineStyle: { type: "dashed", color: COLOURS[key], opacity: 0.5 },
        data: [{ yAxis: target }],
      },
    })),
  });
}

onSubmit(
  document.getElementById("targets-form"),
  (form) => {
    const said = texts(form);
    const wanted = Object.fromEntries(Object.entries(said).map(([name, text]) => [name, Number(text)]));
    return put("/api/turnaround/settings/quality", wanted);
  },
  () => location.reload(),
);
