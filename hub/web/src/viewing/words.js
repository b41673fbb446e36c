// A measurement in the words of a report.
import { t } from "../i18n.js";

const number = (value) => (Math.abs(value) >= 100 ? String(Math.round(value)) : String(Number(value.toFixed(1))));

/** Cornerstone says in the unit how a length was calibrated; without a calibration it counts pixels. */
export function unit(name = "mm") {
  const [plain, ...how] = name.split(/\s+/);
  const words = { px: t("像素"), "px²": t("像素²") };
  const told = { proj: t("投影"), ermf: t("按放大率校正"), user: t("人工校准") };
  const note = told[how.join(" ").toLowerCase()] ?? how.join(" ");
  return `${words[plain] ?? plain}${note ? t("[{note}]", { note }) : ""}`;
}

/** Where it was measured: the slice of a CT or MR, the image of another exam. */
export function place({ modality, series_number: series, image_number: image, frame, frames }) {
  const which = frames > 1 ? frame : image;
  if (!which) return "";
  if (!["CT", "MR", "PT"].includes(modality)) return t("图像 {n}", { n: which });
  return series > 1 ? t("系列 {s} 层面 {n}", { s: series, n: which }) : t("层面 {n}", { n: which });
}

/** The figures without their place; empty where there are none to write. */
export function figures({ statistics: found, label = "" }) {
  const { length, width, area, mean, angle, value } = found;
  let text = "";
  if (length !== undefined && width !== undefined) {
    const [long, short] = [Math.max(length, width), Math.min(length, width)];
    text = t("大小 {long} × {short} {unit}", { long: number(long), short: number(short), unit: unit(found.unit) });
  } else if (length !== undefined) {
    text = t("长径 {n} {unit}", { n: number(length), unit: unit(found.unit) });
  } else if (angle !== undefined) {
    text = t("角度 {n}°", { n: number(angle) });
  } else if (area !== undefined) {
    const size = t("面积 {n} {unit}", { n: number(area), unit: unit(found.areaUnit ?? "mm²") });
    const shade = found.modalityUnit === "HU" && mean !== undefined ? t("平均 {n} HU", { n: number(mean) }) : "";
    text = shade ? t("{shade},{size}", { shade, size }) : size;
  } else if (value !== undefined && found.modalityUnit === "HU") {
    text = t("密度 {n} HU", { n: number(value) });
  }
  return text && label ? `${label} ${text}` : text;
}

/** "长径 12.3 mm(层面 15)"; empty where a drawing has no figures. */
export function words(measurement) {
  const text = figures(measurement);
  const where = place(measurement);
  if (!text) return "";
  return where ? t("{text}({where})", { text, where }) : text;
}
