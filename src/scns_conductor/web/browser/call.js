// 请求 API（经过看板的服务器，令牌在会话里）；拒绝是 Problem。
import { t } from "./facts.js";

export class Problem extends Error {
  constructor(status, code, detail, errors) {
    super(detail);
    Object.assign(this, { status, code, detail, errors: errors ?? [] });
  }
}

export async function call(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch("/api" + path, {
      method,
      headers: { "X-SCNS-Web": "1", ...headers, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
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

// #SBATCH 行怎样读，问服务器：与命令行同一张表。
export async function readHeader(script) {
  const answer = await fetch("/header", { method: "POST", body: script });
  if (!answer.ok) throw new Problem(answer.status, "session_expired", (await answer.json()).detail);
  return answer.json();
}

// 一次提交一个：网络断了再送，不会变成两个作业。
export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
