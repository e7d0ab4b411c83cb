// 管理：调度的统计、健康、各端点的请求；统计可以从头计。
import { computed } from "vue";
import { call } from "./call.js";
import { ClusterWhy } from "./cluster_why.js";
import { ask, tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { ago, count, exact } from "./format.js";
import { changed, live } from "./live.js";

const micro = (value) => (value >= 1e6 ? (value / 1e6).toFixed(2) + t(" 秒", " s") : (value / 1000).toFixed(value < 10_000 ? 1 : 0) + t(" 毫秒", " ms"));
const moment = (value) => (value ? ago(value * 1000) : "—");
// 有话说的：名字与 sdiag 相同的键、怎样写。别的在“全部”里。
const GROUPS = [
  [["作业", "Jobs"], [["jobs_submitted", ["提交了", "Submitted"], count], ["jobs_started", ["启动了", "Started"], count], ["jobs_completed", ["完成了", "Completed"], count], ["jobs_failed", ["失败了", "Failed"], count], ["jobs_canceled", ["取消了", "Cancelled"], count], ["jobs_pending", ["此刻排队", "Pending now"], count], ["jobs_running", ["此刻运行", "Running now"], count], ["jobs_repaired", ["对账时补上的", "Repaired"], count]]],
  [["调度的一遍", "Scheduling cycle"], [["schedule_cycle_last", ["刚才用了", "Last took"], micro], ["schedule_cycle_mean", ["平均", "Mean"], micro], ["schedule_cycle_max", ["最久", "Longest"], micro], ["schedule_cycle_per_minute", ["每分钟几遍", "Cycles a minute"], count], ["schedule_cycle_mean_depth", ["一遍平均看几个", "Jobs looked at, mean"], count], ["schedule_queue_length", ["队列长", "Queue length"], count]]],
  [["回填", "Backfill"], [["bf_backfilled_jobs", ["插空启动的", "Backfilled"], count], ["bf_cycle_last", ["刚才用了", "Last took"], micro], ["bf_cycle_mean", ["平均", "Mean"], micro], ["bf_when_last_cycle", ["上一遍", "Last cycle"], moment], ["bf_last_depth", ["上一遍排到第几个", "Depth of the last"], count]]],
];

const CHECKS = { database: ["数据库", "Database"], schema: ["表结构", "Schema"], scheduler: ["调度器", "Scheduler"], nodes: ["节点", "Nodes"], locks: ["锁", "Locks"], notify_queue: ["通知队列", "Notify queue"], valkey: ["消息总线", "Message bus"] };
const STATUSES = { ok: ["正常", "ok"], degraded: ["欠一些", "degraded"], crowded: ["挤", "crowded"], held: ["有人占着", "held"], blocked: ["被挡住", "blocked"], full: ["盘满了", "full"], absent: ["没有", "absent"], failed: ["不行", "failed"], read_only: ["只读", "read-only"], too_old: ["太旧", "too old"], unavailable: ["用不了", "unavailable"] };

export const AdminScheduler = {
  components: { ClusterWhy },
  setup() {
    const diag = live("/diag", 3), ready = live("/health/ready", 5);
    const statistics = computed(() => diag.data?.statistics);
    const groups = computed(() => GROUPS.map(([words, rows]) => ({ words, rows: rows.filter(([key]) => statistics.value?.[key] !== undefined).map(([key, name, write]) => ({ key, name, text: write(statistics.value[key]) })) })));
    const all = computed(() => Object.entries(statistics.value ?? {}).filter(([, value]) => typeof value === "number" || typeof value === "string"));
    const rpcs = computed(() => [...(statistics.value?.rpcs_by_message_type ?? [])].sort((a, b) => b.total_time - a.total_time).slice(0, 20));
    const checks = computed(() => Object.entries(ready.data?.checks ?? {}).filter(([, value]) => value?.status));
    async function reset() {
      if (!await ask({ title: t("统计从头计", "Reset statistics"), text: t("周期、回填、作业的计数归零；不影响作业。", "Cycle, backfill and job counters return to zero; jobs are not affected."), action: t("从头计", "Reset") })) return;
      await call("POST", "/diag/reset").then(() => (changed(), tell(t("已从头计", "Statistics reset"))), (problem) => tell(problem.detail, { kind: "error" }));
    }
    return { statistics, groups, all, rpcs, checks, CHECKS, STATUSES, reset, micro, facts, ago, count, exact, t };
  },
  template: `
  <div class="grid columns-2"><section class="card"><div class="card-head"><h2>{{ t("统计", "Statistics") }}</h2><small v-if="statistics?.req_time_start" :title="exact(statistics.req_time_start * 1000)">{{ t(ago(statistics.req_time_start * 1000) + "起计", "since " + ago(statistics.req_time_start * 1000)) }}</small><span class="grow"></span><button v-if="facts.admin" class="text-button" @click="reset">{{ t("从头计", "Reset") }}</button></div>
      <div v-if="!statistics" class="bars"><i></i><i></i><i></i></div>
      <template v-for="group in groups" :key="group.words[0]"><h3 class="facts-title">{{ t(...group.words) }}</h3><dl class="facts"><template v-for="row in group.rows" :key="row.key"><dt :title="row.key">{{ t(...row.name) }}</dt><dd>{{ row.text }}</dd></template></dl></template>
      <details class="below"><summary>{{ t("全部（sdiag 的名字与单位）", "Everything (names and units of sdiag)") }}</summary><dl class="facts"><template v-for="[name, value] in all" :key="name"><dt><code>{{ name }}</code></dt><dd>{{ typeof value === "number" ? count(value) : value }}</dd></template></dl></details></section>
    <div class="stack"><section class="card"><h2>{{ t("健康", "Health") }}</h2><dl class="facts"><template v-for="[name, value] in checks" :key="name"><dt :title="name">{{ CHECKS[name] ? t(...CHECKS[name]) : name }}</dt><dd :class="value.status === 'ok' ? 'fine' : 'danger-text'">{{ STATUSES[value.status] ? t(...STATUSES[value.status]) : value.status }}<small v-if="value.remedy"> · {{ value.remedy }}</small><small v-if="value.down?.length"> · <bdi>{{ value.down.join(t("、", ", ")) }}</bdi></small></dd></template></dl></section>
      <section class="card"><h2>{{ t("请求", "Requests") }} <small>{{ t("费时的在前：几次 · 平均多久", "most time first: count · mean") }}</small></h2><dl class="facts"><template v-for="one in rpcs" :key="one.message_type"><dt class="endpoint">{{ one.message_type }}</dt><dd>{{ count(one.count) }} · {{ micro(one.average_time) }}</dd></template></dl></section></div></div>
  <ClusterWhy v-if="facts.admin || facts.operator" />`,
};
