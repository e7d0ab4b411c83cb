// 用量的曲线：CPU、内存、GPU 随时间怎样变化；运行中的一直是新的，结束了的是存下的。
import { computed, ref } from "vue";
import { AreaChart } from "./area_chart.js";
import { t } from "./facts.js";
import { duration, memory, wantedCpus, wantedGpus, wantedMemory } from "./format.js";

export const UsageCurve = {
  props: { job: Object, samples: Object },
  components: { AreaChart },
  setup(props) {
    const chosen = ref("cpus");
    const total = computed(() => props.samples?.total);
    const kinds = computed(() => {
      const { job } = props, number = (value) => value.toFixed(value < 10 ? 2 : 1);
      const rows = [["cpus", "CPU", number, wantedCpus(job), "var(--hue1)"], ["memory_mb", t("内存", "Memory"), memory, wantedMemory(job), "var(--hue2)"]];
      if (total.value?.gpus) rows.push(["gpus", "GPU", number, wantedGpus(job), "var(--hue3)"], ["gpu_memory_mb", t("显存", "GPU memory"), memory, null, "var(--hue4)"]);
      return rows.map(([name, word, unit, top, hue]) => ({ name, word, unit, top: top ?? 0, hue }));
    });
    const kind = computed(() => kinds.value.find((each) => each.name === chosen.value) ?? kinds.value[0]);
    // 没有采到的一格接着前一格画；一格的也要画得出面积。
    const values = computed(() => {
      let last = 0;
      const found = total.value[kind.value.name].map((value) => (last = value ?? last));
      return found.length === 1 ? [found[0], found[0]] : found;
    });
    const series = computed(() => [{ name: kind.value.word, hue: kind.value.hue, values: values.value }]);
    const until = computed(() => new Date(new Date(total.value.since).getTime() + 1000 * total.value.elapsed_s).toISOString());
    // 横轴是开始之后多久：几秒的与几天的作业都看得清。
    const when = (instant) => (instant - new Date(total.value.since) < 500 ? t("开始", "start") : duration((instant - new Date(total.value.since)) / 1000));
    const peak = computed(() => Math.max(...values.value));
    return { chosen, total, kinds, kind, series, until, when, peak, t };
  },
  template: `
  <section v-if="total" class="card usage-curve"><div class="card-head"><h2>{{ t("用量", "Use") }}</h2>
    <div class="tabs" role="group"><button v-for="each in kinds" :key="each.name" class="tab" :aria-pressed="kind.name === each.name" @click="chosen = each.name">{{ each.word }}</button></div><span class="grow"></span>
    <span class="hint number">{{ t("最多 ", "peak ") + kind.unit(peak) }}<template v-if="kind.top"> / {{ kind.unit(kind.top) }}</template></span></div>
    <AreaChart :series="series" :since="total.since" :until="until" :top="kind.top" :unit="kind.unit" :when="when" :label="t('用量随时间的变化：', 'Use over time: ') + kind.word" /></section>`,
};
