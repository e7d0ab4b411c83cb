// 要了多少、用了多少：两条并排，一句建议。
import { computed } from "vue";
import { t } from "./facts.js";
import { duration, memory, runSeconds, wantedCpus, wantedMemory } from "./format.js";

export const Efficiency = {
  props: { job: Object },
  setup(props) {
    const rows = computed(() => {
      const { job } = props, run = runSeconds(job), found = [];
      if (!run || !job.end_time) return [];
      const cpus = wantedCpus(job), asked = wantedMemory(job);
      if (job.cpu_user_s !== null && run >= 1) {
        const used = ((job.cpu_user_s ?? 0) + (job.cpu_system_s ?? 0)) / run;
        found.push({ name: "CPU", asked: cpus, used, words: [used.toFixed(used < 10 ? 1 : 0), cpus],
          hint: cpus > 1 && used < cpus / 2 ? t(`平均只用了 ${used.toFixed(1)} 个，下次要 ${Math.max(1, Math.ceil(used))} 个就够`, `${used.toFixed(1)} used on average; ${Math.max(1, Math.ceil(used))} would do`) : "" });
      }
      if (job.max_rss_kb) {
        const used = job.max_rss_kb / 1024;
        found.push({ name: t("内存", "Memory"), asked: asked ?? used, used, words: [memory(used), asked ? memory(asked) : t("没有要", "not asked")],
          hint: asked && used < asked / 2 ? t(`要了 ${memory(asked)}，最多只用到 ${memory(used)}；要 ${memory(Math.ceil((used * 1.25) / 64) * 64)} 就够，也能更早开始`, `asked ${memory(asked)}, peaked at ${memory(used)}; ${memory(Math.ceil((used * 1.25) / 64) * 64)} would do, and start sooner`)
            : !asked ? t(`没有写内存；写 ${memory(Math.ceil((used * 1.25) / 64) * 64)} 就不会与别人抢`, `no memory asked; ${memory(Math.ceil((used * 1.25) / 64) * 64)} would be safe`) : "" });
      }
      if (job.time_limit) found.push({ name: t("时间", "Time"), asked: job.time_limit, used: run, words: [duration(run), duration(job.time_limit)],
        hint: run < job.time_limit / 4 && job.time_limit > 600 ? t(`时限改成 ${duration(Math.ceil((run * 1.5) / 60) * 60)}，更容易插空`, `a limit of ${duration(Math.ceil((run * 1.5) / 60) * 60)} backfills more easily`) : "" });
      return found.map((row) => ({ ...row, part: Math.min(1, row.used / Math.max(row.asked, row.used, 1e-9)), percent: Math.round((100 * row.used) / row.asked) }));
    });
    return { rows, t };
  },
  template: `
  <section v-if="rows.length" class="card"><h2>{{ t("要了多少，用了多少", "Asked and used") }}</h2>
    <div v-for="row in rows" :key="row.name" class="pair"><div class="pair-head"><b>{{ row.name }}</b><span class="number">{{ row.words[0] }} / {{ row.words[1] }} · {{ row.percent }}%</span></div>
      <div class="pair-bars"><i class="pair-asked"></i><i class="pair-used" :style="{ width: row.part * 100 + '%' }"></i></div>
      <p v-if="row.hint" class="hint">{{ row.hint }}</p></div></section>`,
};
