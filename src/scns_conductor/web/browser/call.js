// 请求 API（经过看板的服务器，令牌在会话里）；拒绝是 Problem。
import { t } from "./facts.js";

export class Problem extends Error {
  constructor(status, code, detail, errors) {
    super(detail);
    Object.assign(this, { status, code, detail, errors: errors ?? [] });
  }
}

export async function call(method, path, body) {
  let answer;
  try {
    answer = await fetch("/api" + path, {
      method,
      headers: { "X-SCNS-Web": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, "unreachable", t("连不上看板的服务器；填好的都还在，请稍后再试",
      "The dashboard server cannot be reached; what you filled in is kept"));
  }
  const text = await answer.text();
  let found = null;
  try {
    found = JSON.parse(text);
  } catch { /* 不是 JSON */ }
  if (answer.ok) return found ?? text;
  throw new Problem(answer.status, found?.code ?? "http_error", found?.detail ?? `HTTP ${answer.status}`, found?.errors);
}

export const segment = (text) => encodeURIComponent(text);

export function queryString(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(kept).toString();
  return text ? "?" + text : "";
}
