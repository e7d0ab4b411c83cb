// 排空、恢复节点：排空要写原因，做完可以撤。
import { call, segment } from "./call.js";
import { ask, tell } from "./dialogs.js";
import { t } from "./facts.js";
import { changed } from "./live.js";

export async function drain(name) {
  const reason = await ask({ title: t(`排空 ${name}`, `Drain ${name}`), text: t("不再接新作业；运行中的不受影响。", "No new jobs start here; running ones go on."), input: t("原因", "Reason"), action: t("排空", "Drain") });
  if (reason) await change(name, { state: "DRAIN", reason }, t(`${name} 正在排空`, `${name} is draining`), () => change(name, { state: "RESUME" }, t(`${name} 已恢复`, `${name} resumed`)));
}

export const resume = (name) => change(name, { state: "RESUME" }, t(`${name} 已恢复`, `${name} resumed`));

async function change(name, body, done, undo = null) {
  try {
    await call("PATCH", "/nodes/" + segment(name), body);
    changed();
    tell(done, { undo });
  } catch (problem) {
    tell(problem.detail, { kind: "error" });
  }
}
