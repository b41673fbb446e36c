// Words of the page. The Chinese text is the key; hub/web/locale/en/*.po has the English.

function block(id) {
  const element = document.getElementById(id);
  try {
    return element ? JSON.parse(element.textContent) : {};
  } catch {
    return {};
  }
}

/** What the page was rendered with: locale, live (address of the event stream), liveWorker, user. */
export const config = block("hub-config");
const words = block("hub-i18n");
export const locale = config.locale === "en" ? "en" : "zh";

/** Translate a literal; `{name}` is replaced from `params`, `{n:image|images}` by the word that fits the number. */
export function t(text, params = {}) {
  const found = Object.hasOwn(words, text) ? words[text] : text;
  return found.replace(/\{(\w+)(?::([^{}|]*)\|([^{}|]*))?\}/g, (whole, name, one, many) => {
    if (!(name in params)) return whole;
    const value = String(params[name]);
    return many === undefined ? value : value === "1" ? one : many;
  });
}

/** Read the JSON of a `<script type="application/json" id="…">` block of the page. */
export function data(id) {
  return block(id);
}

/** A length of time in words, by its two largest units. */
export function duration(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const days = Math.floor(total / 86400);
  const hours = Math.floor((total % 86400) / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  if (days) return t("{days} 天 {hours} 小时", { days, hours });
  if (hours) return t("{hours} 小时 {minutes} 分", { hours, minutes: String(minutes).padStart(2, "0") });
  if (minutes) return t("{minutes} 分钟", { minutes });
  return t("{seconds} 秒", { seconds: total });
}

/** Bytes in words. */
export function bytes(count) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = Number(count) || 0;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
