// 数怎样写：内存、时长、时刻、作业号。精确的值放在悬停里。
import { clock, english, t } from "./facts.js";

export function memory(mib) {
  if (mib === null || mib === undefined) return "—";
  if (mib >= 1048576) return trim(mib / 1048576) + " TiB";
  if (mib >= 1024) return trim(mib / 1024) + " GiB";
  return trim(mib) + " MiB";
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count, unit = 0;
  while (value >= 1024 && unit < 4) value /= 1024, unit++;
  return trim(value) + " " + units[unit];
}

const trim = (value) => (value >= 100 ? Math.round(value) : Math.round(value * 10) / 10).toLocaleString("en-US");
export const count = (value) => (value ?? 0).toLocaleString("en-US");
export const percent = (part, whole) => (whole ? Math.round((100 * part) / whole) + "%" : "—");

// 秒 -> 两级的时长。
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "—";
  const total = Math.max(0, Math.round(seconds));
  const steps = english()
    ? [[86400, " d"], [3600, " h"], [60, " min"], [1, " s"]]
    : [[86400, " 天"], [3600, " 小时"], [60, " 分"], [1, " 秒"]];
  for (let index = 0; index < steps.length; index++) {
    const [size, word] = steps[index];
    if (total >= size || size === 1) {
      const first = Math.floor(total / size);
      const rest = index + 1 < steps.length ? Math.floor((total % size) / steps[index + 1][0]) : 0;
      return first + word + (rest ? " " + rest + steps[index + 1][1] : "");
    }
  }
}

export const seconds = (from, to) => (new Date(to).getTime() - new Date(from).getTime()) / 1000;
export const since = (instant) => (clock.now - new Date(instant).getTime()) / 1000;

export function ago(instant) {
  if (!instant) return "—";
  const passed = since(instant);
  if (passed < -5) return t(`${duration(-passed)}后`, `in ${duration(-passed)}`);
  if (passed < 5) return t("刚刚", "just now");
  return t(`${rough(passed)}前`, `${rough(passed)} ago`);
}

// 只写最大的一级：很久之前的事不必精确到秒。
function rough(passed) {
  const steps = english()
    ? [[86400, " d"], [3600, " h"], [60, " min"], [1, " s"]]
    : [[86400, " 天"], [3600, " 小时"], [60, " 分钟"], [1, " 秒"]];
  const [size, word] = steps.find(([step]) => passed >= step) ?? steps[3];
  return Math.floor(passed / size) + word;
}

export function clockTime(instant) {
  if (!instant) return "—";
  const when = new Date(instant), today = new Date(clock.now);
  const hour = when.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (when.toDateString() === today.toDateString()) return hour;
  return `${dayOf(when)} ${hour}`;
}

export const dayOf = (when) => (english() ? when.toLocaleDateString("en-GB", { day: "numeric", month: "short" }) : `${when.getMonth() + 1} 月 ${when.getDate()} 日`);
// 时刻是哪里的：图上写着。
export const zoneName = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

// 一排刻度，共 span 毫秒：几天的只写日子，日子与前一个相同的只写钟点。
export function clockTicks(instants, span) {
  return instants.map((instant, index) => {
    if (span > 3 * 86400_000) return dayOf(new Date(instant));
    const whole = clockTime(instant);
    return index && new Date(instant).toDateString() === new Date(instants[index - 1]).toDateString() ? whole.slice(-5) : whole;
  });
}

export function exact(instant) {
  if (!instant) return "";
  const when = new Date(instant);
  const pad = (value) => String(value).padStart(2, "0");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return `${when.getFullYear()}-${pad(when.getMonth() + 1)}-${pad(when.getDate())} ` +
    `${pad(when.getHours())}:${pad(when.getMinutes())}:${pad(when.getSeconds())} (${zone})`;
}

// 数组任务写成 8_1，还没有拆开的写成 8_[3-9]。
export function jobLabel(job) {
  if (job.array_job_id === null || job.array_job_id === undefined) return job.job_id;
  if (job.array_remaining) return `${job.array_job_id}_[${job.array_remaining}]`;
  return job.array_task_id === null ? job.array_job_id : `${job.array_job_id}_${job.array_task_id}`;
}

export function jobPath(job) {
  const { array_job_id: array, array_task_id: task } = job;
  return "/jobs/" + (array !== null && array !== undefined && task !== null && task !== undefined
    ? `${array}_${task}` : job.job_id);
}

export const isLive = (state) => ["PENDING", "RUNNING", "SUSPENDED"].includes(state);

// 作业占（或要）多少。
export const wantedCpus = (job) => job.allocated_cpus || (job.tasks ?? 1) * (job.cpus_per_task ?? 1);
export function wantedMemory(job) {
  if (job.allocated_memory) return job.allocated_memory;
  if (job.memory_per_node) return job.memory_per_node * (job.minimum_nodes ?? 1);
  if (job.memory_per_cpu) return job.memory_per_cpu * wantedCpus(job);
  return null;
}

export function wantedGpus(job) {
  const text = [job.allocated_gres, job.tres_per_node, job.tres_per_job, job.tres_per_task].find(Boolean) ?? "";
  return text.split(",").reduce((sum, word) => {
    const found = /(?:^|\/)gpu(?:[:=][a-zA-Z][\w.-]*)?(?:[:=](\d+))?$/.exec(word.trim());
    return found ? sum + Number(found[1] ?? 1) : sum;
  }, 0);
}

export function runSeconds(job) {
  if (!job.start_time) return null;
  return Math.max(0, seconds(job.start_time, job.end_time ?? clock.now) - (job.suspended_s ?? 0));
}
export function waitSeconds(job) {
  return seconds(job.submit_time, job.start_time ?? job.end_time ?? clock.now);
}
