// Talking to the hub: JSON in, JSON out, errors (RFC 9457) as readable text.
import { t } from "./i18n.js";

export function csrfToken() {
  return document.querySelector('meta[name="csrf-token"]')?.content ?? "";
}

/** An answer that is no success. `status` is 0 when the hub could not be reached; `problem` is the RFC 9457 object. */
export class ApiError extends Error {
  constructor(message, status, problem = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.problem = problem;
    this.code = problem.code ?? "";
  }
}

/** The sentence to show for an answer that failed. */
export function problemText(status, problem) {
  if (problem && (problem.detail || problem.title)) return String(problem.detail || problem.title);
  if (status === 0) return t("无法连接服务器,请检查网络");
  if (status === 401) return t("登录已失效,请重新登录");
  if (status === 403) return t("您没有此项权限");
  if (status === 404) return t("没有找到");
  if (status === 409) return t("内容已被他人更改,请刷新后重试");
  if (status === 413) return t("内容太大");
  if (status === 429) return t("操作太频繁,请稍后再试");
  return t("服务器出错({status}),请稍后再试", { status });
}

/**
 * Call the hub.
 * @param {string} url address on this host
 * @param {object} options `method`, `json` (body object), `body`, `headers`, `signal`, `keepalive`, `raw` (give the Response)
 * @returns the decoded JSON, text for other types, null for an empty answer
 * @throws {ApiError}
 */
export async function api(url, options = {}) {
  const { json, raw, headers, ...rest } = options;
  const init = { credentials: "same-origin", ...rest, headers: new Headers(headers) };
  init.method ??= json === undefined && rest.body === undefined ? "GET" : "POST";
  if (!init.headers.has("Accept")) init.headers.set("Accept", "application/json");
  if (json !== undefined) {
    init.headers.set("Content-Type", "application/json");
    init.body = JSON.stringify(json);
  }
  if (!["GET", "HEAD"].includes(init.method)) init.headers.set("X-CSRF-Token", csrfToken());
  let response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(problemText(0), 0);
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new ApiError(problemText(response.status, problem), response.status, problem);
  }
  if (raw) return response;
  if (response.status === 204) return null;
  const type = response.headers.get("Content-Type") ?? "";
  return type.includes("json") ? response.json() : response.text();
}

export const get = (url, options) => api(url, { ...options, method: "GET" });
export const post = (url, json, options) => api(url, { ...options, method: "POST", json });
export const put = (url, json, options) => api(url, { ...options, method: "PUT", json });
export const patch = (url, json, options) => api(url, { ...options, method: "PATCH", json });
export const del = (url, options) => api(url, { ...options, method: "DELETE" });
