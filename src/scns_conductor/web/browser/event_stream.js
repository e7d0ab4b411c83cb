// 一个请求，一个个事件地回答（SSE）；EventSource 不能说清楚为什么被拒绝，所以自己读。
import { Problem } from "./call.js";
import { t } from "./facts.js";

// 逐个交给 receive(名字, 数据)；拒绝、断了抛 Problem，signal 停下时安静地返回。
export async function eventStream(path, receive, signal) {
  let answer;
  try {
    answer = await fetch("/api" + path, { headers: { "X-SCNS-Web": "1", Accept: "text/event-stream" }, signal });
    if (!answer.ok) {
      const found = await answer.json().catch(() => ({}));
      throw new Problem(answer.status, found.code ?? "http_error", found.detail ?? `HTTP ${answer.status}`, found.errors);
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (waiting + value).split("\n\n");
      waiting = blocks.pop();
      for (const block of blocks) {
        const lines = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
        receive(lines.event, JSON.parse(lines.data));
      }
    }
  } catch (error) {
    if (signal.aborted || error instanceof Problem) {
      if (error instanceof Problem) throw error;
      return;
    }
    throw new Problem(0, "unreachable", t("连不上看板的服务器；请稍后再试", "The dashboard server cannot be reached; try again later"));
  }
}
