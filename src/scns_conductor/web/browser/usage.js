// 用量：按账户、用户、分组的合计，要的与用掉的，公平份额；都能存成 CSV。
import { computed, ref } from "vue";
import { AreaChart, hueOf } from "./area_chart.js";
import { t } from "./facts.js";
import { FairShareTree } from "./fair_share_tree.js";
import { count, duration, memory } from "./format.js";
import { Icon } from "./icons.js";
import { LimitsCard } from "./limits_card.js";
import { live } from "./live.js";
import { route, setQuery } from "./route.js";

const SPANS = { "1day": ["一天", "Day"], "7day": ["一周", "Week"], "30day": ["一个月", "Month"] };
const GROUPS = { account: ["账户", "Account"], user_name: ["用户", "User"], partition: ["分区", "Partition"], qos: ["QOS", "QOS"], wckey: ["标签", "WCKey"], job_cpus: ["作业大小", "Job size"] };
// 画得出历史的：API 的 by。
const CHARTS = { account: "account", user_name: "user", partition: "partition", qos: "qos" };
const hours = (seconds) => (seconds / 3600).toLocaleString("en-US", { maximumFractionDigits: seconds < 36000 ? 2 : 0 });

export default {
  components: { AreaChart, FairShareTree, Icon, LimitsCard },
  setup() {
    const span = computed(() => (SPANS[route.query.span] ? route.query.span : "7day")), group = computed(() => (GROUPS[route.query.by] ? route.query.by : "account"));
    const by = computed(() => CHARTS[group.value] ?? "account");
    const report = live(() => `/reports/usage?since=now-${span.value}`, 30), history = live(() => `/reports/utilization?since=now-${span.value}&buckets=${span.value === "1day" ? 96 : 168}&by=${by.value}`, 30), thrift = live(() => `/reports/efficiency?since=now-${span.value}`, 30), board = live("/dashboard", 10);
    const rows = computed(() => {
      const found = new Map();
      for (const row of report.data?.usage ?? []) {
        const key = row[group.value] ?? t("（没有）", "(none)"), entry = found.get(key) ?? { key, jobs: 0, cpu_s: 0, memory_mb_s: 0, node_s: 0, gpu_s: 0 };
        for (const name of ["jobs", "cpu_s", "memory_mb_s", "node_s", "gpu_s"]) entry[name] += row[name];
        found.set(key, entry);
      }
      const list = [...found.values()].sort((a, b) => b.cpu_s - a.cpu_s), total = list.reduce((sum, row) => sum + row.cpu_s, 0);
      return list.map((row) => ({ ...row, part: total ? row.cpu_s / total : 0, hue: CHARTS[group.value] ? hueOf(row.key) : "var(--accent)" }));
    });
    const gpus = computed(() => rows.value.some((row) => row.gpu_s));
    // 图画哪一样：CPU、内存，用过卡的还有 GPU。
    const kind = ref("cpus"), tabs = computed(() => [["cpus", "CPU"], ["memory_mb", t("内存", "Memory")], ...(gpus.value ? [["gpus", "GPU"]] : [])]);
    const top = computed(() => { const found = board.data?.resources; return !found ? 0 : kind.value === "gpus" ? Object.entries(found.gres).filter(([name]) => name.startsWith("gpu")).reduce((sum, [, value]) => sum + value.total, 0) : found[kind.value].total; });
    const unit = computed(() => (kind.value === "memory_mb" ? memory : (value) => value.toFixed(1)));
    const series = computed(() => (history.data?.accounts ?? []).map((one) => ({ name: one.name ?? (one.others ? t(`其余 ${one.others} 个`, `${one.others} others`) : t("（没有）", "(none)")), hue: hueOf(one.others ? null : one.name), values: one[kind.value] })));
    const wasters = computed(() => (thrift.data?.users ?? []).filter((row) => row.cpu_asked_s > 1).map((row) => ({ ...row, cpu: row.cpu_used_s / row.cpu_asked_s, memory: row.memory_asked_mb_s ? row.memory_used_mb_s / row.memory_asked_mb_s : null, time: row.limit_asked_s ? row.limit_used_s / row.limit_asked_s : null, waste: row.cpu_asked_s - row.cpu_used_s })).slice(0, 25));
    function csv() {
      // 开头像公式的：表格软件会算它，前面加一撇。
      const quote = (value) => `"${(typeof value === "number" ? String(value) : String(value).replace(/^(?=[=+\-@\t\r])/, "'")).replaceAll('"', '""')}"`;
      const lines = [[group.value, "jobs", "cpu_hours", "memory_gib_hours", "node_hours", "gpu_hours"], ...rows.value.map((row) => [row.key, row.jobs, row.cpu_s / 3600, row.memory_mb_s / 1024 / 3600, row.node_s / 3600, row.gpu_s / 3600])];
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(["\ufeff" + lines.map((line) => line.map(quote).join(",")).join("\r\n")], { type: "text/csv" }));
      link.download = `usage-${group.value}-${span.value}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href));
    }
    const percent = (value) => (value === null ? "—" : Math.round(value * 100) + "%");
    return { span, group, SPANS, GROUPS, CHARTS, rows, gpus, kind, tabs, top, unit, series, report, history, thrift, wasters, board, by, setQuery, csv, hours, percent, count, duration, memory, t };
  },
  template: `
  <div class="page-head"><h1>{{ t("用量", "Usage") }}</h1><span class="grow"></span><div class="tabs" role="group" :aria-label="t('多久', 'Period')"><button v-for="(words, name) in SPANS" :key="name" class="tab" :aria-pressed="span === name" @click="setQuery({ span: name })">{{ t(...words) }}</button></div></div>
  <section class="card"><div class="card-head"><h2>{{ t("占用的 ", "In use: ") + tabs.find(([name]) => name === kind)?.[1] + t("，按", ", by ") + t(...GROUPS[Object.keys(CHARTS).find((name) => CHARTS[name] === by)]) }}</h2><span class="grow"></span><div class="tabs" role="group" :aria-label="t('画哪一样', 'Resource')"><button v-for="[name, word] in tabs" :key="name" class="tab" :aria-pressed="kind === name" @click="kind = name">{{ word }}</button></div></div><AreaChart v-if="history.data" :series="series" :since="history.data.since" :until="history.data.until" :top="top" :unit="unit" :label="t('占用的历史', 'Use over time')" /><div v-else class="bars"><i></i><i></i></div></section>
  <section class="card below"><div class="card-head"><h2>{{ t("合计", "Totals") }}</h2><div class="tabs" role="group" :aria-label="t('按什么合计', 'Group by')"><button v-for="(words, name) in GROUPS" :key="name" class="tab" :aria-pressed="group === name" @click="setQuery({ by: name })">{{ t(...words) }}</button></div><span class="grow"></span><button class="button" @click="csv"><Icon name="download" :size="16" />CSV</button></div>
    <div class="scroll" tabindex="0" role="region" :aria-label="t('合计的表', 'Totals table')"><table class="table"><thead><tr><th scope="col">{{ t(...GROUPS[group]) }}</th><th scope="col" class="number">{{ t("作业", "Jobs") }}</th><th scope="col" class="number">{{ t("CPU 小时", "CPU hours") }}</th><th scope="col" class="share">{{ t("占比", "Share") }}</th><th scope="col" class="number">{{ t("内存 GiB 小时", "GiB hours") }}</th><th scope="col" class="number">{{ t("节点小时", "Node hours") }}</th><th v-if="gpus" scope="col" class="number">{{ t("GPU 小时", "GPU hours") }}</th></tr></thead>
      <tbody><tr v-for="row in rows" :key="row.key"><td class="job-cell"><b>{{ row.key }}</b></td><td class="number" :data-label="t('作业', 'Jobs')">{{ count(row.jobs) }}</td><td class="number" :data-label="t('CPU 小时', 'CPU hours')">{{ hours(row.cpu_s) }}</td><td class="share"><span class="gauge"><i :style="{ width: row.part * 100 + '%', background: row.hue }"></i></span> {{ percent(row.part) }}</td><td class="number" :data-label="t('内存', 'GiB h')">{{ hours(row.memory_mb_s / 1024) }}</td><td class="number" :data-label="t('节点', 'Node h')">{{ hours(row.node_s) }}</td><td v-if="gpus" class="number" :data-label="t('GPU 小时', 'GPU h')">{{ hours(row.gpu_s) }}</td></tr>
        <tr v-if="report.data && !rows.length"><td colspan="7" class="nothing">{{ t("这段时间没有人用过。", "No use in this period.") }}</td></tr></tbody></table></div></section>
  <section class="card below"><h2>{{ t("要得多、用得少", "Asked for more than used") }}</h2><p class="hint">{{ t("白占的 CPU 多的在前；要得准一些，大家都少等。", "Most idle CPU time first; closer requests mean shorter waits for everyone.") }}</p>
    <div class="scroll" tabindex="0" role="region" :aria-label="t('效率的表', 'Efficiency table')"><table class="table"><thead><tr><th scope="col">{{ t("用户", "User") }}</th><th scope="col">{{ t("账户", "Account") }}</th><th scope="col" class="number">{{ t("作业", "Jobs") }}</th><th scope="col" class="number">{{ t("白占的 CPU 小时", "Idle CPU hours") }}</th><th scope="col" class="number">{{ t("CPU 用了", "CPU used") }}</th><th scope="col" class="number">{{ t("内存用了", "Memory used") }}</th><th scope="col" class="number">{{ t("时限用了", "Limit used") }}</th></tr></thead>
      <tbody><tr v-for="row in wasters" :key="row.user_name + row.account"><td class="job-cell"><a :href="'/jobs?user=' + encodeURIComponent(row.user_name)">{{ row.user_name }}</a></td><td :data-label="t('账户', 'Account')">{{ row.account ?? "—" }}</td><td class="number" :data-label="t('作业', 'Jobs')">{{ count(row.jobs) }}</td><td class="number" :data-label="t('白占', 'Idle')">{{ hours(row.waste) }}</td><td class="number" data-label="CPU">{{ percent(row.cpu) }}</td><td class="number" :data-label="t('内存', 'Memory')">{{ percent(row.memory) }}</td><td class="number" :data-label="t('时限', 'Limit')">{{ percent(row.time) }}</td></tr></tbody></table></div></section>
  <LimitsCard /><FairShareTree />`,
};
