// 计划：调度器自己的，何时、在哪个节点。
import { computed } from "vue";
import { segment } from "./call.js";
import { facts, t } from "./facts.js";
import { ago, clockTime, count, exact, jobLabel, jobPath } from "./format.js";
import { Gantt } from "./gantt.js";
import { expandHosts } from "./hosts.js";
import { live } from "./live.js";
import { rowsOf } from "./node_rows.js";
import { go, route, setQuery } from "./route.js";

const FIELDS = "job_id,array_job_id,array_task_id,array_remaining,name,user_name,state,start_time,end_time,time_limit,suspended_s,node_list,allocated_cpus";
const MOST_NODES = 100;
const seconds = (instant) => new Date(instant).getTime() / 1000;

export default {
  components: { Gantt },
  setup() {
    const running = live(`/jobs?state=RUNNING,SUSPENDED&limit=1000&fields=${FIELDS}`, 3), ended = live(`/jobs?end_after=now-2hour&sort=-end_time&limit=500&fields=${FIELDS}`, 6);
    const schedule = live("/schedule", 5), nodes = live("/nodemap", 10), reservations = live("/reservations", 15), partitions = live("/partitions", 30);
    const bars = computed(() => [
      ...(ended.data?.jobs ?? []).filter((job) => job.start_time).map((job) => bar(job, "ended", seconds(job.end_time))),
      ...(running.data?.jobs ?? []).map((job) => bar(job, "running", job.time_limit ? seconds(job.start_time) + job.time_limit + (job.suspended_s ?? 0) : null)),
      ...(schedule.data?.schedule ?? []).map((row) => ({ id: row.job_id, label: row.job_id + " " + (row.name ?? ""), user_name: row.user_name, kind: "planned", start: seconds(row.start_time), end: row.end_time ? seconds(row.end_time) : null, nodes: row.nodes, cpus: row.cpus })),
    ]);
    const bar = (job, kind, end) => ({ id: jobPath(job).slice(6), label: `${jobLabel(job)} ${job.name}`, user_name: job.user_name, kind, start: seconds(job.start_time), end, nodes: expandHosts(job.node_list), cpus: job.allocated_cpus });
    const bands = computed(() => (reservations.data?.reservations ?? []).map((one) => ({ name: one.name, start: seconds(one.start_time), end: one.end_time ? seconds(one.end_time) : null, nodes: expandHosts(one.nodes ?? one.node_list ?? "") })));
    const partition = computed(() => route.query.partition ?? "");
    const names = computed(() => rowsOf(nodes.data).filter((node) => !partition.value || node.partitions.split(",").includes(partition.value)).map((node) => node.name));
    const shown = computed(() => names.value.slice(0, MOST_NODES));
    return { bars, bands, names, shown, schedule, partitions, partition, setQuery, facts, t, ago, clockTime, count, exact, segment, open: (id) => go("/jobs/" + id) };
  },
  template: `
  <div class="page-head"><h1>{{ t("计划", "Plan") }}</h1><span class="grow"></span><label class="field inline"><span class="unseen">{{ t("分区", "Partition") }}</span><select :value="partition" @change="setQuery({ partition: $event.target.value })"><option value="">{{ t("全部分区", "All partitions") }}</option><option v-for="one in partitions.data?.partitions ?? []" :key="one.name">{{ one.name }}</option></select></label></div>
  <section class="card" :aria-label="t('甘特图', 'Gantt chart')"><Gantt :bars="bars" :bands="bands" :nodes="shown" @open="open" /><p v-if="names.length > shown.length" class="hint">{{ t("只画前 " + shown.length + " 个节点，共 " + names.length + " 个；选一个分区看别的", "First " + shown.length + " of " + names.length + " nodes; choose a partition to see others") }}</p></section>
  <section class="card below"><h2>{{ t("接下来开始的", "Next to start") }}</h2><p v-if="schedule.error" class="hint">{{ schedule.error.detail }}</p><p v-else-if="schedule.data && !schedule.data.schedule.length" class="hint">{{ t("没有受阻的作业：交了就能开始。", "Nothing is blocked: jobs start as they are submitted.") }}</p>
    <ul v-else class="my-jobs next"><li v-for="row in (schedule.data?.schedule ?? []).slice(0, 30)" :key="row.job_id"><time :title="exact(row.start_time)">{{ clockTime(row.start_time) }}</time><a :href="'/jobs/' + row.job_id"><b class="job-id">{{ row.job_id }}</b> <bdi>{{ row.name }}</bdi> <small>{{ row.user_name }}</small></a><span class="my-progress">{{ row.cpus }} CPU · {{ [...new Set(row.nodes)].slice(0, 3).join(t("、", ", ")) }}{{ new Set(row.nodes).size > 3 ? " …" : "" }}</span></li></ul></section>`,
};
