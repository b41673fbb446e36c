// The light viewer of a clinic's pages: it pages through previews, by wheel, keys, slider or finger.
import { t } from "./i18n.js";

const AHEAD = 4;

/**
 * Bring the page's `<dialog id="viewer">` (clinic/_viewer.html) to life.
 * @param {(id: string) => {title: string, images: [string, number, string][]} | undefined} find a series by its id;
 *   an image is its id, its number, and a word about it
 * @param {(id: string, series: object) => string} address of an image
 * @returns {(id: string) => void} opens a series, in its middle
 */
export function lightViewer(find, address) {
  const viewer = document.getElementById("viewer");
  const part = (name) => viewer.querySelector(`[data-viewer-${name}]`);
  const image = part("image");
  const range = part("range");
  let series = null;
  let at = 0;

  const warm = new Map();

  /** Fetch the next few in the direction of travel: on a slow link paging must not wait for each. */
  function fetchAhead(direction) {
    for (let step = 1; step <= AHEAD; step += 1) {
      const next = series.images[at + step * direction];
      if (!next || warm.has(next[0])) continue;
      const picture = new Image();
      picture.src = address(next[0], series);
      warm.set(next[0], picture);
    }
  }

  function show(index) {
    const direction = index < at ? -1 : 1;
    at = Math.max(0, Math.min(index, series.images.length - 1));
    const [id, number, note] = series.images[at];
    part("title").textContent = series.title;
    part("position").textContent = `${at + 1} / ${series.images.length}`;
    range.max = String(series.images.length);
    range.value = String(at + 1);
    image.alt = t("第 {n} 幅", { n: number });
    image.classList.add("is-loading");
    const wanted = address(id, series);
    image.onload = () => image.classList.remove("is-loading");
    image.onerror = () => {
      image.classList.remove("is-loading");
      say(t("预览还没有准备好,请稍候"));
    };
    say(note);
    image.src = wanted;
    fetchAhead(direction);
  }

  function say(text) {
    part("note").textContent = text || "";
    part("note").hidden = !text;
  }

  function open(id) {
    series = find(id);
    if (!series) return;
    at = 0;
    image.classList.remove("is-zoomed");
    viewer.showModal();
    show(Math.floor((series.images.length - 1) / 2));
  }

  part("close").addEventListener("click", () => viewer.close());
  part("prev").addEventListener("click", () => show(at - 1));
  part("next").addEventListener("click", () => show(at + 1));
  range.addEventListener("input", () => show(Number(range.value) - 1));
  image.addEventListener("dblclick", () => image.classList.toggle("is-zoomed"));
  viewer.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, PageUp: -5, PageDown: 5 }[event.key];
    if (!step || event.target === range) return;
    event.preventDefault();
    show(at + step);
  });
  viewer.addEventListener(
    "wheel",
    (event) => {
      if (image.classList.contains("is-zoomed")) return;
      event.preventDefault();
      show(at + Math.sign(event.deltaY));
    },
    { passive: false },
  );
  let touch = null;
  const stage = part("stage");
  stage.addEventListener("touchstart", (event) => (touch = event.touches[0].clientX), { passive: true });
  stage.addEventListener(
    "touchmove",
    (event) => {
      if (touch === null || image.classList.contains("is-zoomed")) return;
      const moved = event.touches[0].clientX - touch;
      if (Math.abs(moved) < 24) return;
      touch = event.touches[0].clientX;
      show(at + (moved < 0 ? 1 : -1));
    },
    { passive: true },
  );
  stage.addEventListener("touchend", () => (touch = null));
  return open;
}
