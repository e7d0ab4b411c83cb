// 对作业能做的事：问清楚，逐个做，说结果。做什么由 API 定，这里只问它。
import { call } from "./call.js";
import { ask, tell } from "./dialogs.js";
import { readsOnly, t } from "./facts.js";
import { changed } from "./live.js";

export const ACTIONS = {
  cancel: { word: ["取消", "Cancel"], states: ["PENDING", "RUNNING", "SUSPENDED"], danger: true },
  hold: { word: ["保留", "Hold"], states: ["PENDING"], undo: "release" },
  release: { word: ["放行", "Release"], states: ["PENDING"], undo: "hold" },
  requeue: { word: ["重新排队", "Requeue"], states: ["RUNNING", "SUSPENDED", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED"], danger: true },
  suspend: { word: ["挂起", "Suspend"], states: ["RUNNING"], undo: "resume" },
  resume: { word: ["恢复", "Resume"], states: ["SUSPENDED"] },
};
const HELD = ["JobHeldUser", "JobHeldAdmin", "JobHoldMaxRequeue"];
export const actionWord = (name) => t(...ACTIONS[name].word);

export function applicable(name, job) {
  if (readsOnly() || !ACTIONS[name].states.includes(job.state)) return false;
  if (name === "hold") return !HELD.includes(job.reason);
  if (name === "release") return HELD.includes(job.reason);
  return true;
}

// jobs 是 [{id, state, running}]；返回做成的个数，没有确认是 null。
export async function act(name, jobs, { confirm = true } = {}) {
  const word = actionWord(name), running = jobs.filter((job) => job.state === "RUNNING").length;
  const many = jobs.length > 1 ? t(`${jobs.length} 个作业`, `${jobs.length} jobs`) : t(`作业 ${jobs[0].id}`, `job ${jobs[0].id}`);
  if (confirm && (ACTIONS[name].danger || jobs.length > 1)) {
    const text = running && ACTIONS[name].danger
      ? t(`其中 ${running} 个正在运行，会立即结束，没有保存的结果就没有了。`, `${running} running: they end now, and unsaved results are gone.`)
      : jobs.length > 1 ? jobs.slice(0, 12).map((job) => job.id).join(", ") + (jobs.length > 12 ? " …" : "") : "";
    const sure = await ask({ title: `${word} ${many}`, text, action: `${word} ${many}`, danger: ACTIONS[name].danger });
    if (!sure) return null;
  }
  let done = [], refused = [];
  try {
    const answer = await call("POST", "/jobs/control", { action: name, job_ids: jobs.map((job) => job.id) });
    [done, refused] = [answer.jobs, answer.errors.map((error) => error.detail)];
  } catch (problem) {
    refused = [problem.detail];
  }
  changed();
  const back = ACTIONS[name].undo;
  if (done.length) tell(t(`已${word} ${done.length > 1 ? done.length + " 个作业" : "作业 " + done[0].job_id}`,
    `${word}: ${done.length > 1 ? done.length + " jobs" : "job " + done[0].job_id}`),
  back ? { undo: () => act(back, done.map((job) => ({ id: job.job_id, state: job.state })), { confirm: false }) } : {});
  if (refused.length) tell((refused.length > 1 ? t(`${refused.length} 个没有成：`, `${refused.length} refused: `) : "") + refused[0], { kind: "error" });
  return done.length;
}
