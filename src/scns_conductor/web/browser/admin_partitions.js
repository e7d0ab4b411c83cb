// 管理：分区。
import { call, segment } from "./call.js";
import { tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { duration } from "./format.js";
import { changed, live } from "./live.js";
import { RecordTable } from "./record_table.js";

const FIELDS = [
  ["name", ["名字", "Name"], "text", "gpu", "new"], ["nodes", ["节点（ALL 是全部）", "Nodes (ALL for all)"], "text", "node[1-8]"], ["state", ["状态", "State"], "text", ["UP", "DRAIN", "DOWN", "INACTIVE"]],
  ["is_default", ["缺省分区", "Default"], "flag"], ["max_time", ["最长时限", "Longest limit"], "limit", "7-00:00:00"], ["default_time", ["缺省时限", "Default limit"], "limit", "01:00:00"],
  ["priority_tier", ["层级", "Tier"], "number", "1"], ["priority_job_factor", ["优先级因子", "Priority factor"], "number", "1"], ["min_nodes", ["至少几个节点", "Min nodes"], "number", "0"], ["max_nodes", ["至多几个节点", "Max nodes"], "number", ""],
  ["max_cpus_per_node", ["每节点至多 CPU", "Max CPUs per node"], "number", ""], ["max_memory_per_node", ["每节点至多内存", "Max memory per node"], "memory", "64G"], ["default_memory_per_cpu", ["每 CPU 缺省内存", "Default memory per CPU"], "memory", "2G"],
  ["allow_accounts", ["只许这些账户", "Allowed accounts"], "list", "vision,nlp"], ["deny_accounts", ["不许这些账户", "Denied accounts"], "list", ""], ["allow_qos", ["只许这些 QOS", "Allowed QOS"], "list", ""],
  ["preempt_mode", ["抢占方式", "Preempt mode"], "text", ["", "requeue", "cancel", "suspend", "off"]], ["grace_time", ["抢占的宽限（秒）", "Grace time (s)"], "number", "0"], ["exclusive", ["整个节点独占", "Exclusive nodes"], "flag"],
];

export const AdminPartitions = {
  components: { RecordTable },
  setup() {
    const found = live("/partitions", 5);
    const columns = [
      [["分区", "Partition"], (one) => one.name + (one.is_default ? t("（缺省）", " (default)") : "")], [["状态", "State"], (one) => one.state], [["节点", "Nodes"], (one) => one.nodes],
      [["最长时限", "Longest limit"], (one) => (one.max_time ? duration(one.max_time) : t("不限", "none")), true], [["层级", "Tier"], (one) => one.priority_tier, true], [["账户", "Accounts"], (one) => one.allow_accounts?.join(", ") ?? t("都可以", "any")],
    ];
    async function setState(one, state) {
      try {
        await call("PATCH", "/partitions/" + segment(one.name), { state });
        changed();
        tell(t(`分区 ${one.name} 现在是 ${state}`, `Partition ${one.name} is now ${state}`));
      } catch (problem) {
        tell(problem.detail, { kind: "error" });
      }
    }
    return { found, columns, FIELDS, facts, setState, t, pathOf: (one) => "/partitions/" + segment(one.name), nameOf: (one) => one.name };
  },
  template: `
  <RecordTable :title="t('分区', 'Partitions')" :noun="['分区', 'partition']" :rows="found.data?.partitions" :columns="columns" :fields="FIELDS" create="/partitions" :path-of="pathOf" :name-of="nameOf" :may-edit="facts.admin">
    <template #actions="{ row }"><button class="text-button" @click="setState(row, row.state === 'UP' ? 'DRAIN' : 'UP')">{{ row.state === "UP" ? t("停收作业", "Stop accepting") : t("恢复", "Resume") }}</button></template></RecordTable>`,
};
