// ECharts with only what the hub draws: import it by `await import("../chart.js")`, so that other pages stay light.
import { BarChart, LineChart, PieChart } from "echarts/charts";
import { DatasetComponent, GridComponent, LegendComponent, MarkLineComponent, TooltipComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";

use([
  BarChart,
  LineChart,
  PieChart,
  DatasetComponent,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TooltipComponent,
  SVGRenderer,
]);

const COLOURS = ["#0b6478", "#2f9e8f", "#e0a526", "#c9543f", "#6d5bb0", "#4b87c5", "#7a8a94"];

/**
 * Draw a chart that follows the size of its box.
 * @param {HTMLElement} element a `.chart`
 * @param {object} option ECharts' option
 * @param {(params: object) => void} [onClick] called with ECharts' event, to lead to the exams behind a bar
 */
export function draw(element, option, onClick) {
  const chart = init(element, null, { renderer: "svg" });
  chart.setOption({
    color: COLOURS,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    animationDuration: 250,
    ...option,
  });
  if (onClick) chart.on("click", onClick);
  new ResizeObserver(() => chart.resize()).observe(element);
  return chart;
}
