// 一个节点：占了多少，核与 GPU 各归谁，其上的作业，排空与恢复。
import { computed } from "vue";
import { segment } from "./call.js";
import { hueOf } from "./area_chart.js";
import { facts, t } from "./facts.js";
import { ago, clockTime, count, duration, exact, jobLabel, jobPath, memory, percent, runSeconds } from "./format.js";
import { live } from "./live.js";
import { drain, resume } from "./node_actions.js";
import { isDown, NodeTag, StateTag } from "./state_tag.js";

const FIELDS = "job_id,array_job_id,array_task_id,array_remaining,name,user_name,account,state,start_time,end_time,time_limit,suspended_s,allocated_cpus,allocated_nodes,allocated_gres,tasks,cpus_per_task";

export default {
  props: { subject: String },
  components: { NodeTag, StateTag },
  setup(props) {
    const name = decodeURIComponent(props.subject), found = live("/nodes/" + segment(name));
    const jobs = live(`/jobs?node=${segment(name)}&state=RUNNING,SUSPENDED&limit=200&fields=${FIELDS}`), past = live(`/jobs?node=${segment(name)}&limit=15&sort=-job_id&state=COMPLETED,FAILED,TIMEOUT,OUT_OF_MEMORY,NODE_FAIL,CANCELLED,PREEMPTED&fields=${FIELDS}`, 10);
    const node = computed(() => found.data);
    const bars = computed(() => !node.value ? [] : [["CPU", node.value.allocated_cpus, node.value.cpus, count], [t("内存", "Memory"), node.value.allocated_memory, node.value.memory, memory],
      ...Object.entries(node.value.gres).map(([kind, total]) => [kind.toUpperCase(), node.value.allocated_gres[kind] ?? 0, total, count])].map(([label, used, total, write]) => ({ label, used: write(used), total: write(total), part: total ? used / total : 0, percent: percent(used, total) })));
    // 一格一个核，颜色是谁的作业；一个作业的核连在一起。
    const cores = computed(() => {
      if (!node.value) return [];
      const cells = [];
      for (const job of jobs.data?.jobs ?? []) for (let index = 0; index < Math.ceil((job.allocated_cpus || 1) / (job.allocated_nodes || 1)); index++) cells.push({ job, hue: hueOf(job.account ?? job.user_name) });
      while (cells.length < node.value.cpus) cells.push(null);
      return cells.slice(0, Math.min(node.value.cpus, 512));
    });
    const facts_ = computed(() => !node.value ? [] : [[t("地址", "Address"), node.value.address], [t("特性", "Features"), node.value.features.join(", ")], [t("权重", "Weight"), node.value.weight], [t("拓扑", "Topology"), node.value.topology], [t("系统", "System"), `${node.value.operating_system ?? ""} ${node.value.architecture ?? ""}`], [t("负载", "Load"), node.value.cpu_load === null ? null : node.value.cpu_load.toFixed(2)], [t("空闲内存", "Free memory"), node.value.free_memory === null ? null : memory(node.value.free_memory)], [t("临时磁盘", "Temporary disk"), memory(node.value.temporary_disk)],
      [t("约束", "Containment"), node.value.containment?.detail], [t("代理", "Agent"), node.value.agent_version], [t("开机", "Booted"), node.value.boot_time ? ago(node.value.boot_time) : null]].filter(([, value]) => value !== null && value !== undefined && value !== ""));
    return { isDown, name, found, node, jobs, past, bars, cores, facts_, facts, drain, resume, t, ago, clockTime, duration, exact, jobLabel, jobPath, runSeconds, memory };
  },
  template: `
  <div v-if="found.error?.status === 404" class="empty"><h1>{{ t("没有这个节点", "No such node") }}</h1><p>{{ name.slice(0, 80) }}</p><a class="button" href="/nodes">{{ t("全部节点", "All nodes") }}</a></div>
  <div v-else-if="!node" class="bars"><i></i><i></i><i></i></div>
  <template v-else><div class="page-head"><h1>{{ node.name }}</h1><NodeTag :state="node.state" /><span class="grow"></span>
    <template v-if="facts.admin"><button v-if="node.drain || isDown(node)" class="button primary" @click="resume(node.name)">{{ t("恢复", "Resume") }}</button><button v-if="!node.drain" class="button" @click="drain(node.name)">{{ t("排空", "Drain") }}</button></template></div>
    <p v-if="node.reason" class="notice" :class="{ bad: isDown(node) }">{{ node.reason }}<small v-if="node.reason_user"> — {{ node.reason_user }}，{{ ago(node.reason_time) }}</small></p>
    <div class="grid columns-2"><div class="stack">
      <section class="card"><h2>{{ t("核", "Cores") }}</h2><div class="cores"><component :is="cell ? 'a' : 'i'" v-for="(cell, index) in cores" :key="index" :href="cell ? jobPath(cell.job) : null" :style="cell ? { background: cell.hue } : null" :title="cell ? jobLabel(cell.job) + ' ' + cell.job.name : t('空闲', 'idle')" :aria-label="cell ? jobLabel(cell.job) : null" tabindex="-1"></component></div></section>
      <section class="card"><h2>{{ t("其上的作业", "Jobs here") }}</h2><ul class="my-jobs"><li v-for="job in [...(jobs.data?.jobs ?? []), ...(past.data?.jobs ?? [])]" :key="job.job_id"><StateTag :state="job.state" /><a :href="jobPath(job)"><b class="job-id">{{ jobLabel(job) }}</b> <bdi>{{ job.name }}</bdi> <small>{{ job.user_name }}</small></a><span class="my-progress">{{ duration(runSeconds(job)) }}<small v-if="job.end_time" :title="exact(job.end_time)"> · {{ ago(job.end_time) }}</small></span></li></ul>
        <p v-if="jobs.data && past.data && !jobs.data.jobs.length && !past.data.jobs.length" class="hint">{{ t("还没有作业来过。", "No job has run here yet.") }}</p></section></div>
      <div class="stack"><section class="card"><h2>{{ t("占用", "Use") }}</h2><div v-for="row in bars" :key="row.label" class="pair"><div class="pair-head"><b>{{ row.label }}</b><span class="number">{{ row.used }} / {{ row.total }} · {{ row.percent }}</span></div><div class="gauge"><i :style="{ width: row.part * 100 + '%' }"></i></div></div></section>
      <section class="card"><h2>{{ t("这台机器", "This machine") }}</h2><dl class="facts"><template v-for="[label, value] in facts_" :key="label"><dt>{{ label }}</dt><dd>{{ value }}</dd></template></dl></section></div></div></template>`,
};
