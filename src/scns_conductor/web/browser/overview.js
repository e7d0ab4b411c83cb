// 总览：先是我的作业，然后集群怎样、谁在用、有没有要管的事。
import { computed, ref } from "vue";
import { segment } from "./call.js";
import { AreaChart, hueOf } from "./area_chart.js";
import { facts, readsOnly, seesAll, t } from "./facts.js";
import { ago, clockTime, count, duration, exact, jobLabel, jobPath, memory, percent, runSeconds } from "./format.js";
import { Icon } from "./icons.js";
import { live } from "./live.js";
import { rowsOf } from "./node_rows.js";
import { reasonText } from "./reasons.js";
import { ENDED_BADLY as BAD, isDown, NodeTag, STATES, StateTag, stateClass, stateWord } from "./state_tag.js";

const FIELDS = "job_id,array_job_id,array_task_id,array_remaining,name,user_name,partition,state,reason,error_msg,submit_time,start_time,end_time,expected_start_time,time_limit,suspended_s,exit_code,node_list";
const SPANS = { "1hour": [["一小时", "Hour"], 60],  "1day": [["一天", "Day"], 96], "7day": [["一周", "Week"], 168] };

// 工作目录的盘少于这么多（MiB）就是快满了，同 deploy/prometheus/alerts.yml。
const LOW_SPOOL = 1024;
// 一问一答超过这么多毫秒就是慢。
const SLOW_MS = 200;

function databaseAlerts(checks) {
  if (!checks) return [];
  const found = [], { database, locks, notify_queue: queue, valkey } = checks;
  if (database.roundtrip_ms > SLOW_MS) found.push(["warn", t(`数据库慢：一问一答 ${Math.round(database.roundtrip_ms)} 毫秒`, `The database is slow: ${Math.round(database.roundtrip_ms)} ms a round trip`)]);
  if (database.status === "full") found.push(["bad", t("数据库的磁盘满了，收不下新的作业", "The database's disk is full: it takes no new jobs")]);
  if (database.shortfalls.length) found.push(["warn", t(`数据库服务器的设置有 ${database.shortfalls.length} 处不足`, `${database.shortfalls.length} settings of the database server fall short`)]);
  if (locks?.held?.length) found.push(["warn", t("有会话的事务锁着作业或节点的行", "A session's transaction holds locks on our rows")]);
  if (queue?.status && queue.status !== "ok") found.push(["warn", t("数据库的通知队列快满了", "The database's notification queue is filling up")]);
  if (valkey?.status === "unavailable") found.push(["warn", t("消息总线（Valkey）不能用：作业照样启动，只是慢", "The message bus (Valkey) is not usable: jobs still start, only later")]);
  else if (valkey?.shortfalls?.length) found.push(["warn", t(`消息总线（Valkey）有 ${valkey.shortfalls.length} 处不足`, `${valkey.shortfalls.length} settings of the message bus (Valkey) fall short`)]);
  return found;
}

export default {
  components: { AreaChart, Icon, NodeTag, StateTag },
  setup() {
    const me = segment(facts.user_name), span = ref("1day"), resource = ref("cpus");
    const running = live(`/jobs?user=${me}&state=RUNNING,SUSPENDED&limit=4&sort=-job_id&fields=${FIELDS}`), pending = live(`/jobs?user=${me}&state=PENDING&limit=3&sort=job_id&fields=${FIELDS}`, 4);
    const ended = live(`/jobs?user=${me}&state=${[...BAD, "COMPLETED"].join(",")}&end_after=now-1day&limit=60&sort=-end_time&fields=${FIELDS}`, 4);
    const board = live("/dashboard"), nodes = live("/nodemap", 5);
    const history = live(() => `/reports/utilization?since=now-${span.value}&buckets=${SPANS[span.value][1]}`, 30), licenses = live("/licenses", 5);
    // 数据库的事只有管理员管得了。
    const ready = live(() => (seesAll() ? "/health/ready" : null), 5);
    const last = computed(() => [...(ended.data?.jobs ?? [])].sort((a, b) => BAD.includes(b.state) - BAD.includes(a.state)).slice(0, 3));
    const nothing = computed(() => running.data && pending.data && ended.data && !running.data.jobs.length && !pending.data.jobs.length && !ended.data.jobs.length);
    const resources = computed(() => {
      const found = board.data?.resources;
      if (!found) return [];
      const rows = [["CPU", found.cpus, count], [t("内存", "Memory"), found.memory_mb, memory], ...Object.entries(found.gres).map(([name, value]) => [name.toUpperCase(), value, count])];
      return rows.map(([name, value, write]) => ({ name, used: write(value.used), total: write(value.total), part: value.total ? value.used / value.total : 0, percent: percent(value.used, value.total) }));
    });
    const counts = computed(() => STATES.map((state) => ({ state, count: board.data?.jobs.by_state[state] ?? 0 })).filter((each) => each.count || ["PENDING", "RUNNING"].includes(each.state)));
    const series = computed(() => (history.data?.accounts ?? []).map((one) => ({ name: one.account ?? (one.others ? t(`其余 ${one.others} 个`, `${one.others} others`) : t("没有账户", "no account")), hue: hueOf(one.others ? null : one.account), values: one[resource.value] })).filter((one) => one.values.some((value) => value > 0)));
    const units = { cpus: (value) => value.toFixed(1), memory_mb: memory, gpus: (value) => value.toFixed(1) };
    const top = computed(() => {
      const found = board.data?.resources;
      return !found ? 0 : resource.value === "gpus" ? Object.entries(found.gres).filter(([name]) => name.startsWith("gpu")).reduce((sum, [, value]) => sum + value.total, 0) : found[resource.value].total;
    });
    const tabs = computed(() => [["cpus", "CPU"], ["memory_mb", t("内存", "Memory")], ...(Object.keys(board.data?.resources.gres ?? {}).some((name) => name.startsWith("gpu")) ? [["gpus", "GPU"]] : [])]);
    const alerts = computed(() => {
      const found = [];
      if (board.data && !board.data.leader.alive) found.push(["bad", t("没有调度器：排队的作业不会开始", "No scheduler: pending jobs will not start"), null]);
      for (const held of board.data?.leader.blocked ?? []) found.push(["warn", t("有会话锁着调度器要写的行：", "A session blocks the scheduler: ") + (held.application ?? held.pid ?? ""), null]);
      for (const [kind, text] of databaseAlerts(ready.data?.checks)) found.push([kind, text, "/admin?tab=scheduler"]);
      for (const node of rowsOf(nodes.data)) {
        if (isDown(node)) found.push(["bad", t(`节点 ${node.name} 下线`, `Node ${node.name} is down`) + (node.reason ? t("：", ": ") + node.reason : ""), "/nodes/" + segment(node.name)]);
        else if (node.drain) found.push(["warn", t(`节点 ${node.name} 在排空`, `Node ${node.name} is draining`) + (node.reason ? t("：", ": ") + node.reason : ""), "/nodes/" + segment(node.name)]);
        if (node.spool_free !== null && node.spool_free < LOW_SPOOL) found.push(["warn", t(`节点 ${node.name} 的工作目录只剩 ${memory(node.spool_free)}`, `Node ${node.name} has only ${memory(node.spool_free)} left for its spool`), "/nodes/" + segment(node.name)]);
      }
      for (const one of licenses.data?.licenses ?? []) if (one.total && one.used >= one.total) found.push(["warn", t(`许可证 ${one.name} 用完了`, `Licence ${one.name} is used up`), null]);
      return found.length > 8 ? [...found.slice(0, 8), ["warn", t(`还有 ${found.length - 8} 件`, `${found.length - 8} more`), "/nodes"]] : found;
    });
    const nodeStates = computed(() => Object.entries(board.data?.resources.nodes.by_state ?? {}));
    const part = (job) => (job.time_limit ? Math.min(1, runSeconds(job) / job.time_limit) : null);
    return { running, pending, last, nothing, board, history, resources, counts, series, units, top, tabs, span, SPANS, resource, alerts, nodeStates, part, facts, reasonText, t, ago, clockTime, count, duration, exact, jobLabel, jobPath, runSeconds, stateClass, stateWord, me };
  },
  template: `
  <div class="page-head"><h1>{{ t("总览", "Overview") }}</h1><span class="grow"></span><a class="button primary" href="/submit"><Icon name="submit" :size="16" />{{ t("提交作业", "Submit") }}</a></div>
  <ul v-if="alerts.length" class="alerts" :aria-label="t('要管的事', 'Alerts')"><li v-for="[kind, text, link] in alerts" :key="text" :class="kind"><Icon name="warn" :size="16" /><a v-if="link" :href="link">{{ text }}</a><span v-else>{{ text }}</span></li></ul>
  <div class="grid columns-2">
    <div class="stack">
      <section class="card"><div class="card-head"><h2>{{ t("我的作业", "My jobs") }}</h2><span class="grow"></span><a :href="'/jobs?user=' + me">{{ t("全部", "All") }}</a></div>
        <div v-if="nothing" class="empty small"><p>{{ t("还没有作业。交第一个：", "No jobs yet. Submit the first:") }}</p><a class="button primary" href="/submit">{{ t("写一个脚本", "Write a script") }}</a>
          <p class="hint"><code>scns submit job.sh</code> · <code>sbatch job.sh</code> · <code>POST /jobs/submit</code></p></div>
        <div v-else-if="!running.data" class="bars"><i></i><i></i><i></i></div>
        <ul v-else class="my-jobs">
          <li v-for="job in running.data.jobs" :key="job.job_id"><StateTag :state="job.state" /><a :href="jobPath(job)"><b class="job-id">{{ jobLabel(job) }}</b> <bdi>{{ job.name }}</bdi></a>
            <span class="my-progress"><span v-if="part(job) !== null" class="meter long" :class="{ near: part(job) > 0.9 }"><i :style="{ width: part(job) * 100 + '%' }"></i></span><span class="amount">{{ duration(runSeconds(job)) }}<small v-if="job.time_limit"> / {{ duration(job.time_limit) }}</small></span></span></li>
          <li v-for="job in pending.data?.jobs ?? []" :key="job.job_id"><StateTag :state="job.state" /><a :href="jobPath(job)"><b class="job-id">{{ jobLabel(job) }}</b> <bdi>{{ job.name }}</bdi></a>
            <span class="my-progress"><span class="hint">{{ reasonText(job.reason, job.error_msg) }}</span><template v-if="job.expected_start_time"><span class="dot">·</span>{{ t("预计 ", "expected ") + clockTime(job.expected_start_time) }}</template></span></li>
          <li v-for="job in last" :key="job.job_id"><StateTag :state="job.state" /><a :href="jobPath(job)"><b class="job-id">{{ jobLabel(job) }}</b> <bdi>{{ job.name }}</bdi></a>
            <span class="my-progress" :title="exact(job.end_time)"><span v-if="job.state === 'FAILED'" class="hint">{{ t("退出码 ", "exit ") + job.exit_code }} · </span>{{ ago(job.end_time) }}</span></li></ul></section>
      <section class="card"><div class="card-head"><h2>{{ t("用了多少", "Utilisation") }}</h2>
        <div class="tabs" role="group"><button v-for="[name, word] in tabs" :key="name" class="tab" :aria-pressed="resource === name" @click="resource = name">{{ word }}</button></div><span class="grow"></span>
        <div class="tabs" role="group"><button v-for="(one, name) in SPANS" :key="name" class="tab" :aria-pressed="span === name" @click="span = name">{{ t(...one[0]) }}</button></div></div>
        <AreaChart v-if="history.data" :series="series" :since="history.data.since" :until="history.data.until" :top="top" :unit="units[resource]" :label="t('各账户占用的历史', 'Use over time by account')" />
        <div v-else class="bars"><i></i><i></i><i></i></div></section>
    </div>
    <div class="stack">
      <section class="card"><h2>{{ t("此刻", "Now") }}</h2><div v-if="!resources.length" class="bars"><i></i><i></i></div>
        <div v-for="row in resources" :key="row.name" class="pair"><div class="pair-head"><b>{{ row.name }}</b><span class="number">{{ row.used }} / {{ row.total }} · {{ row.percent }}</span></div><div class="gauge"><i :style="{ width: row.part * 100 + '%' }"></i></div></div></section>
      <section class="card"><h2>{{ t("作业", "Jobs") }}</h2><ul class="tallies"><li v-for="each in counts" :key="each.state"><a :href="'/jobs?state=' + each.state"><StateTag :state="each.state" /><b class="number">{{ count(each.count) }}</b></a></li></ul></section>
      <section class="card"><h2>{{ t("等多久", "Waiting") }} <small>{{ t("过去" + SPANS[span][0][0], "past " + SPANS[span][0][1].toLowerCase()) }}</small></h2><dl v-if="history.data" class="facts"><dt>{{ t("开始了", "Started") }}</dt><dd>{{ t(count(history.data.waits.started) + " 个作业", count(history.data.waits.started) + " jobs") }}</dd>
        <template v-for="[key, words] in [['p50_s', ['一半等不到', 'Half waited under']], ['p90_s', ['九成等不到', '90% under']], ['p99_s', ['99% 等不到', '99% under']]]" :key="key"><dt>{{ t(...words) }}</dt><dd>{{ history.data.waits[key] === null ? "—" : duration(Math.ceil(history.data.waits[key])) }}</dd></template></dl></section>
      <section class="card"><h2>{{ t("节点", "Nodes") }}</h2><ul class="tallies"><li v-for="[state, total] in nodeStates" :key="state"><a :href="'/nodes?state=' + state"><NodeTag :state="state" /><b class="number">{{ count(total) }}</b></a></li></ul></section>
    </div></div>`,
};
