// 作业的状态：图标、词、颜色，处处一样。
import { h } from "vue";
import { t } from "./facts.js";
import { Icon } from "./icons.js";

const WORDS = {
  PENDING: ["排队", "Pending"], RUNNING: ["运行", "Running"], SUSPENDED: ["挂起", "Suspended"],
  COMPLETED: ["完成", "Completed"], CANCELLED: ["取消", "Cancelled"], FAILED: ["失败", "Failed"],
  TIMEOUT: ["超时", "Timeout"], NODE_FAIL: ["节点故障", "Node fail"], PREEMPTED: ["被抢占", "Preempted"],
  OUT_OF_MEMORY: ["内存超限", "Out of memory"], DEADLINE: ["过了期限", "Deadline"], BOOT_FAIL: ["启动失败", "Boot fail"],
};
export const STATES = Object.keys(WORDS);
export const ENDED_BADLY = ["FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "DEADLINE", "BOOT_FAIL", "PREEMPTED"];
export const stateWord = (state) => (WORDS[state] ? t(...WORDS[state]) : state);

const LOOK = { DEADLINE: "TIMEOUT", BOOT_FAIL: "NODE_FAIL", PREEMPTED: "SUSPENDED" };
export const stateClass = (state) => "state-" + (LOOK[state] ?? state);

export const StateTag = (props) =>
  h("span", { class: ["state", stateClass(props.state)], title: props.state },
    [h(Icon, { name: props.state === "DEADLINE" ? "TIMEOUT" : props.state, size: 14 }), stateWord(props.state)]);
StateTag.props = ["state"];

const NODE_WORDS = {
  IDLE: ["空闲", "Idle"], MIXED: ["部分占用", "Mixed"], ALLOCATED: ["占满", "Allocated"],
  DRAINED: ["已排空", "Drained"], DRAINING: ["正在排空", "Draining"], DOWN: ["下线", "Down"], UNKNOWN: ["未知", "Unknown"],
  OFF: ["已关机", "Powered off"], POWERING: ["在开关机", "Powering"],
};
// Slurm 的写法：MIXED+DRAIN 还有作业在跑，IDLE+DRAIN 已经空了；DOWN* 是没有心跳。
export function nodeLook(state) {
  if (state.startsWith("DOWN")) return "DOWN";
  if (state.includes("POWERED_DOWN")) return "OFF";
  if (state.includes("POWERING_")) return "POWERING";
  if (!state.includes("DRAIN")) return state.split("+")[0];
  return /^(IDLE|DRAINED)/.test(state) ? "DRAINED" : "DRAINING";
}
// 为节能关着的不算下线。
export const isDown = (node) => /^(DOWN|UNKNOWN)/.test(node.state);
export const nodeWord = (state) => (NODE_WORDS[nodeLook(state)] ? t(...NODE_WORDS[nodeLook(state)]) : state);
export const NodeTag = (props) => h("span", { class: ["state", "node-" + nodeLook(props.state)], title: props.word ? null : props.state }, props.word ?? nodeWord(props.state));
// word 是另写的字。
NodeTag.props = ["state", "word"];
