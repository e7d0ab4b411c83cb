// 要了多少、用了多少：两条并排，一句建议。
import { computed } from "vue";
import { t } from "./facts.js";
import { duration, memory, runSeconds, wantedCpus, wantedMemory } from "./format.js";

export const Efficiency = {
  // total 是用量的曲线：运行中的也说得出，CPU 说得出最忙时。
  props: { job: Object, total: Object },
  setup(props) {
    const rows = computed(() => {
      const { job } = props, run = runSeconds(job), found = [];
      const { total } = props, ended = !!job.end_time;
      if (!run || (!ended && !total)) return [];
      const cpus = wantedCpus(job), asked = wantedMemory(job);
      const curved = total?.cpus.length > 1 ? total.cpus.reduce((sum, value, at) => sum + value * Math.min(total.width_s, total.elapsed_s - at * total.width_s), 0) / total.elapsed_s : null;
      const busiest = total?.cpus.length > 1 ? Math.max(...total.cpus) : null;
      if (run >= 1 && (ended ? job.cpu_user_s !== null : curved !== null)) {
        const used = ended ? ((job.cpu_user_s ?? 0) + (job.cpu_system_s ?? 0)) / run : curved;
        found.push({ name: "CPU", asked: cpus, used, words: [used.toFixed(used < 10 ? 1 : 0), cpus],
          hint: !ended ? "" : cpus > 1 && used < cpus / 2 && busiest !== null && busiest > used * 1.5 ? t(`平均只用了 ${used.toFixed(1)} 个，最忙时用到 ${busiest.toFixed(1)} 个；要少于 ${Math.max(1, Math.ceil(busiest))} 个，忙的一段会变慢`, `${used.toFixed(1)} used on average, ${busiest.toFixed(1)} at the busiest; fewer than ${Math.max(1, Math.ceil(busiest))} would slow the busy part`)
            : cpus > 1 && used < cpus / 2 ? t(`平均只用了 ${used.toFixed(1)} 个，下次要 ${Math.max(1, Math.ceil(used))} 个就够`, `${used.toFixed(1)} used on average; ${Math.max(1, Math.ceil(used))} would do`) : "" });
      }
      const most = Math.max((job.max_rss_kb ?? 0) / 1024, ...(total?.memory_mb ?? []).map((value) => value ?? 0));
      if (most) {
        const used = most;
        found.push({ name: t("内存", "Memory"), asked, used, words: [memory(used), asked ? memory(asked) : t("没有要", "not asked")],
          hint: !ended ? "" : asked && used < asked / 2 ? t(`要了 ${memory(asked)}，最多只用到 ${memory(used)}；要 ${memory(Math.ceil((used * 1.25) / 64) * 64)} 就够，也能更早开始`, `asked ${memory(asked)}, peaked at ${memory(used)}; ${memory(Math.ceil((used * 1.25) / 64) * 64)} would do, and start sooner`)
            : !asked ? t(`没有写内存；写 ${memory(Math.ceil((used * 1.25) / 64) * 64)} 就不会与别人抢`, `no memory asked; ${memory(Math.ceil((used * 1.25) / 64) * 64)} would be safe`) : "" });
      }
      if (job.time_limit) found.push({ name: t("时间", "Time"), asked: job.time_limit, used: run, words: [duration(run), duration(job.time_limit)],
        hint: ended && run < job.time_limit / 4 && job.time_limit > 600 ? t(`时限改成 ${duration(Math.ceil((run * 1.5) / 60) * 60)}，更容易插空`, `a limit of ${duration(Math.ceil((run * 1.5) / 60) * 60)} backfills more easily`) : "" });
      return found.map((row) => ({ ...row, part: row.asked ? Math.min(1, row.used / Math.max(row.asked, row.used, 1e-9)) : 0, percent: row.asked ? Math.round((100 * row.used) / row.asked) : null }));
    });
    return { rows, t };
  },
  template: `
  <section v-if="rows.length" class="card"><h2>{{ t("要了多少，用了多少", "Asked and used") }}</h2>
    <div v-for="row in rows" :key="row.name" class="pair"><div class="pair-head"><b>{{ row.name }}</b><span class="number">{{ row.words[0] }} / {{ row.words[1] }}<template v-if="row.percent !== null"> · {{ row.percent }}%</template></span></div>
      <div v-if="row.percent !== null" class="pair-bars"><i class="pair-asked"></i><i class="pair-used" :style="{ width: row.part * 100 + '%' }"></i></div>
      <p v-if="row.hint" class="hint">{{ row.hint }}</p></div></section>`,
};
