// 「假如」的结果：一句话，几个数的前后，占用与排队的曲线，各个用户的等待。
import { computed } from "vue";
import { t } from "./facts.js";
import { count, duration } from "./format.js";
import { LineChart } from "./line_chart.js";

const HUES = ["var(--accent)", "var(--hue2)", "var(--hue3)", "var(--hue4)"];
const MOST_USERS = 12;
const whole = (seconds) => duration(Math.round(seconds));

export const WhatIfResult = {
  props: { result: Object },
  components: { LineChart },
  setup(props) {
    let next = 0;
    const runs = computed(() => {
      next = 0;
      return props.result.runs.map((run) => ({ ...run, name: run.when === "actual" ? t("实际的", "Actual") : run.when === "before" ? t("照现在的重演", "Replayed as is") : run.policy === "live" ? t("假如", "What if") : t("假如，", "What if, ") + run.policy,
        hue: run.when === "after" ? HUES[next++ % HUES.length] : "var(--muted)", dashed: run.when === "actual" }));
    });
    const before = computed(() => runs.value.find((run) => run.when === "before"));
    const after = computed(() => runs.value.filter((run) => run.when === "after"));
    const change = (from, to, better) => {
      const part = from ? (to - from) / from : 0;
      return Math.abs(part) < 0.005 ? null : { text: part >= 9 ? "×" + Math.round(to / from) : (part > 0 ? "+" : "−") + Math.abs(Math.round(part * 100)) + "%", kind: better === null ? "" : part < 0 === (better === "less") ? "good" : "bad" };
    };
    const ROWS = [
      [["平均等待", "Mean wait"], "avg_wait_s", whole, "less"], [["一半等不到", "Median wait"], "median_wait_s", whole, "less"], [["95% 等不到", "95% waited under"], "p95_wait_s", whole, "less"],
      [["最长等待", "Longest wait"], "max_wait_s", whole, "less"], [["平均慢化", "Mean slowdown"], "avg_bounded_slowdown", (value) => value.toFixed(2), "less"],
      [["利用率", "Utilisation"], "utilization", (value) => (value * 100).toFixed(1) + "%", null], [["全部做完用", "Makespan"], "makespan_s", whole, "less"], [["启动不了", "Never start"], "never_started", count, "less"],
    ];
    const table = computed(() => ROWS.map(([words, key, write, better]) => ({ words, cells: runs.value.map((run) => ({ text: write(run.metrics[key]), change: run.when === "after" ? change(before.value.metrics[key], run.metrics[key], better) : null })) })));
    const lead = computed(() => {
      const best = [...after.value].sort((a, b) => a.metrics.avg_wait_s - b.metrics.avg_wait_s)[0];
      if (!best) return t("没有改动：重演一遍与实际相近，说明这样演是可信的。", "Nothing changed: the replay is close to what really happened, so it can be trusted.");
      const from = before.value.metrics.avg_wait_s, to = best.metrics.avg_wait_s, name = best.policy === "live" ? "" : best.policy + t("：", ": ");
      if (Math.abs(to - from) < 1) return name + t(`平均等待没有变，还是 ${whole(to)}`, `the mean wait stays at ${whole(to)}`);
      return name + (to < from ? t(`平均等待从 ${whole(from)} 降到 ${whole(to)}`, `the mean wait falls from ${whole(from)} to ${whole(to)}`) : t(`平均等待从 ${whole(from)} 升到 ${whole(to)}`, `the mean wait rises from ${whole(from)} to ${whole(to)}`));
    });
    const lines = (key) => runs.value.map((run) => ({ name: run.name, hue: run.hue, dashed: run.dashed, values: run.curves[key] }));
    const users = computed(() => Object.entries(before.value.metrics.users).slice(0, MOST_USERS).map(([name, one]) => ({ name, jobs: one.jobs, waits: [before.value, ...after.value].map((run) => {
      const own = run.metrics.users[name];
      return { text: own ? whole(own.avg_wait_s) : "—", change: own && run.when === "after" ? change(one.avg_wait_s, own.avg_wait_s, "less") : null };
    }) })));
    const top = computed(() => Math.max(...runs.value.map((run) => run.machine.cpus)));
    const one = (value) => value.toFixed(1);
    return { runs, before, after, table, lead, lines, users, top, one, t, count };
  },
  template: `
  <div class="stack"><section class="card"><p class="why-lead">{{ lead }}</p><p class="hint">{{ t(count(before.metrics.jobs) + " 个作业", count(before.metrics.jobs) + " jobs") }}<template v-if="result.left_out"> · {{ t("作业太多，只用了最近的", "only the most recent were used") }}</template><template v-for="note in result.notes" :key="note.code"> · {{ note.text }} {{ note.jobs }}</template></p>
      <div class="scroll" tabindex="0" :aria-label="t('各数的前后', 'Before and after')"><table class="table wide"><thead><tr><th scope="col"></th><th v-for="run in runs" :key="run.name" scope="col" class="number"><i class="line-key" :class="{ dashed: run.dashed }" :style="{ borderColor: run.hue }"></i>{{ run.name }}</th></tr></thead>
        <tbody><tr v-for="row in table" :key="row.words[0]"><th scope="row">{{ t(...row.words) }}</th><td v-for="(cell, index) in row.cells" :key="index" class="number">{{ cell.text }}<small v-if="cell.change" class="change" :class="cell.change.kind">{{ cell.change.text }}</small></td></tr>
          <tr><th scope="row">{{ t("节点 / CPU / GPU", "Nodes / CPUs / GPUs") }}</th><td v-for="run in runs" :key="run.name" class="number">{{ run.machine.nodes }} / {{ count(run.machine.cpus) }} / {{ run.machine.gpus }}</td></tr></tbody></table></div></section>
    <section class="card"><h2>{{ t("排队的作业", "Jobs waiting") }}</h2><LineChart :series="lines('queue')" :since="result.since" :until="result.until" :unit="one" :label="t('排队的作业数，前后', 'Queue length, before and after')" /></section>
    <section class="card"><h2>{{ t("占用的 CPU", "CPUs in use") }}</h2><LineChart :series="lines('cpus')" :since="result.since" :until="result.until" :top="top" :unit="one" :label="t('占用的 CPU，前后', 'CPUs in use, before and after')" /></section>
    <section v-if="after.length" class="card"><h2>{{ t("各人平均等多久", "Mean wait by user") }}</h2><div class="scroll" tabindex="0" :aria-label="t('各人平均等多久', 'Mean wait by user')"><table class="table wide"><thead><tr><th scope="col">{{ t("用户", "User") }}</th><th scope="col" class="number">{{ t("作业", "Jobs") }}</th><th scope="col" class="number">{{ before.name }}</th><th v-for="run in after" :key="run.name" scope="col" class="number">{{ run.name }}</th></tr></thead>
      <tbody><tr v-for="user in users" :key="user.name"><td><bdi>{{ user.name }}</bdi></td><td class="number">{{ count(user.jobs) }}</td><td v-for="(wait, index) in user.waits" :key="index" class="number">{{ wait.text }}<small v-if="wait.change" class="change" :class="wait.change.kind">{{ wait.change.text }}</small></td></tr></tbody></table></div></section></div>`,
};
