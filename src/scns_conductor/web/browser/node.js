// 一个节点：占了多少，核与 GPU 各归谁，其上的作业，出过的事，排空与恢复。
import { computed } from "vue";
import { segment } from "./call.js";
import { hueOf } from "./area_chart.js";
import { facts, t } from "./facts.js";
import { ago, clockTime, count, duration, exact, jobLabel, jobPath, memory, percent, runSeconds, wantedGpus } from "./format.js";
import { live } from "./live.js";
import { drain, resume } from "./node_actions.js";
import { isDown, NodeTag, StateTag } from "./state_tag.js";

const FIELDS = "job_id,array_job_id,array_task_id,array_remaining,name,user_name,account,state,start_time,end_time,time_limit,suspended_s,allocated_cpus,allocated_nodes,allocated_gres,tasks,cpus_per_task";

const MOST_CELLS = 512;
const EVENTS = { up: ["IDLE", "上线", "up"], down: ["DOWN", "下线", "down"], draining: ["DRAINING", "开始排空", "draining"], drained: ["DRAINED", "排空", "drained"], resumed: ["IDLE", "不再排空", "resumed"] };

export default {
  props: { subject: String },
  components: { NodeTag, StateTag },
  setup(props) {
    const name = decodeURIComponent(props.subject), found = live("/nodes/" + segment(name));
    const jobs = live(`/jobs?node=${segment(name)}&state=RUNNING,SUSPENDED&limit=200&fields=${FIELDS}`), past = live(`/jobs?node=${segment(name)}&limit=15&sort=-job_id&state=COMPLETED,FAILED,TIMEOUT,OUT_OF_MEMORY,NODE_FAIL,CANCELLED,PREEMPTED&fields=${FIELDS}`, 10);
    const node = computed(() => found.data);
    const bars = computed(() => !node.value ? [] : [["CPU", node.value.allocated_cpus, node.value.cpus, count], [t("内存", "Memory"), node.value.allocated_memory, node.value.memory, memory],
      ...Object.entries(node.value.gres).map(([kind, total]) => [kind.toUpperCase(), node.value.allocated_gres[kind] ?? 0, total, count])].map(([label, used, total, write]) => ({ label, used: write(used), total: write(total), part: total ? used / total : 0, percent: percent(used, total) })));
    // 一格一个核（一块卡），颜色是谁的作业；一个作业的连在一起。
    const cells = (total, amount) => {
      const taken = (jobs.data?.jobs ?? []).flatMap((job) => Array(Math.ceil(amount(job) / (job.allocated_nodes || 1))).fill({ job, hue: hueOf(job.account ?? job.user_name) }));
      return [...taken, ...Array(Math.max(0, total - taken.length)).fill(null)].slice(0, Math.min(total, MOST_CELLS));
    };
    const gpus = computed(() => Object.entries(node.value?.gres ?? {}).reduce((sum, [kind, total]) => sum + (/^gpu(:|$)/.test(kind) ? total : 0), 0));
    const maps = computed(() => !node.value ? [] : [[t("核", "Cores"), "core", cells(node.value.cpus, (job) => job.allocated_cpus || 1)], ["GPU", "gpu", cells(gpus.value, (job) => (job.allocated_gres ? wantedGpus(job) : 0))]].filter(([, , found]) => found.length));
    const events = live("/nodes/" + segment(name) + "/events?limit=20", 5);
    const facts_ = computed(() => !node.value ? [] : [[t("地址", "Address"), node.value.address], [t("特性", "Features"), node.value.features.join(", ")], [t("权重", "Weight"), node.value.weight], [t("拓扑", "Topology"), node.value.topology], [t("系统", "System"), `${node.value.operating_system ?? ""} ${node.value.architecture ?? ""}`], [t("负载", "Load"), node.value.cpu_load === null ? null : node.value.cpu_load.toFixed(2)], [t("空闲内存", "Free memory"), node.value.free_memory === null ? null : memory(node.value.free_memory)], [t("临时磁盘", "Temporary disk"), memory(node.value.temporary_disk)],
      [t("工作目录的盘", "Spool disk"), node.value.spool_free === null ? null : t("还有 ", "") + memory(node.value.spool_free) + t("", " free")], [t("约束", "Containment"), node.value.containment?.detail], [t("代理", "Agent"), node.value.agent_version], [t("开机", "Booted"), node.value.boot_time ? ago(node.value.boot_time) : null]].filter(([, value]) => value !== null && value !== undefined && value !== ""));
    return { isDown, name, found, node, jobs, past, bars, maps, events, EVENTS, facts_, facts, drain, resume, t, ago, clockTime, duration, exact, jobLabel, jobPath, runSeconds, memory };
  },
  template: `
  <div v-if="found.error?.status === 404" class="empty"><h1>{{ t("没有这个节点", "No such node") }}</h1><p>{{ name.slice(0, 80) }}</p><a class="button" href="/nodes">{{ t("全部节点", "All nodes") }}</a></div>
  <div v-else-if="!node" class="bars"><i></i><i></i><i></i></div>
  <template v-else><div class="page-head"><h1>{{ node.name }}</h1><NodeTag :state="node.state" /><span class="grow"></span>
    <template v-if="facts.admin"><button v-if="node.drain || isDown(node)" class="button primary" @click="resume(node.name)">{{ t("恢复", "Resume") }}</button><button v-if="!node.drain" class="button" @click="drain(node.name)">{{ t("排空", "Drain") }}</button></template></div>
    <p v-if="node.reason" class="notice" :class="{ bad: isDown(node) }">{{ node.reason }}<small v-if="node.reason_user"> — {{ node.reason_user }}{{ t("，", ", ") }}{{ ago(node.reason_time) }}</small></p>
    <div class="grid columns-2"><div class="stack">
      <section v-for="[title, kind, found] in maps" :key="kind" class="card"><h2>{{ title }}</h2><div class="cores" :class="kind"><component :is="cell ? 'a' : 'i'" v-for="(cell, index) in found" :key="index" :href="cell ? jobPath(cell.job) : null" :style="cell ? { background: cell.hue } : null" :title="cell ? jobLabel(cell.job) + ' ' + cell.job.name : t('空闲', 'idle')" :aria-label="cell ? jobLabel(cell.job) : null" tabindex="-1"></component></div></section>
      <section class="card"><h2>{{ t("其上的作业", "Jobs here") }}</h2><ul class="my-jobs"><li v-for="job in [...(jobs.data?.jobs ?? []), ...(past.data?.jobs ?? [])]" :key="job.job_id"><StateTag :state="job.state" /><a :href="jobPath(job)"><b class="job-id">{{ jobLabel(job) }}</b> <bdi>{{ job.name }}</bdi> <small>{{ job.user_name }}</small></a><span class="my-progress">{{ duration(runSeconds(job)) }}<small v-if="job.end_time" :title="exact(job.end_time)"> · {{ ago(job.end_time) }}</small></span></li></ul>
        <p v-if="jobs.data && past.data && !jobs.data.jobs.length && !past.data.jobs.length" class="hint">{{ t("还没有作业来过。", "No job has run here yet.") }}</p></section></div>
      <div class="stack"><section class="card"><h2>{{ t("占用", "Use") }}</h2><div v-for="row in bars" :key="row.label" class="pair"><div class="pair-head"><b>{{ row.label }}</b><span class="number">{{ row.used }} / {{ row.total }} · {{ row.percent }}</span></div><div class="gauge"><i :style="{ width: row.part * 100 + '%' }"></i></div></div></section>
      <section class="card"><h2>{{ t("这台机器", "This machine") }}</h2><dl class="facts"><template v-for="[label, value] in facts_" :key="label"><dt>{{ label }}</dt><dd>{{ value }}</dd></template></dl>
        <p v-if="node.containment?.not_enforced?.length" class="hint below"><span>{{ t("没有圈住：", "Not contained: ") + node.containment.not_enforced.join(t("、", "; ")) }}<small> — {{ t("修好“约束”一项说的，再在那台机器上 kill -9 工作目录里 shepherd.lock 写着的牧守进程：代理另起一个，接上运行中的作业", "mend what “Containment” says, then kill -9 the shepherd named in shepherd.lock of the spool directory there: the agent starts another, which takes over the running jobs") }}</small></span></p></section>
      <section class="card"><h2>{{ t("出过的事", "History") }}</h2><p v-if="events.data && !events.data.events.length" class="hint">{{ t("三十天里什么也没有。", "Nothing in the last thirty days.") }}</p><ol v-else class="events"><li v-for="one in events.data?.events ?? []" :key="one.event_id"><time :title="exact(one.created_at)">{{ clockTime(one.created_at) }}</time><span><NodeTag :state="EVENTS[one.event][0]" :word="t(...EVENTS[one.event].slice(1))" /> <template v-if="one.reason && one.event !== 'resumed' && one.event !== 'up'"><bdi>{{ one.reason }}</bdi><small v-if="one.reason_user"> — {{ one.reason_user }}</small></template></span></li></ol></section></div></div></template>`,
};
