// 叠起来的面积：各账户用了多少。零线总在，标签写在面积里或右边，不另画图例。
import { computed, ref } from "vue";
import { t } from "./facts.js";
import { clockTicks, clockTime, zoneName } from "./format.js";

const HUES = 7;
// 同一个账户在哪一页都是同一个颜色。
export function hueOf(name) {
  if (name === null || name === undefined) return "var(--other)";
  let hash = 2166136261;
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
  return `var(--hue${((hash >>> 0) % HUES) + 1})`;
}

export const AreaChart = {
  // when 把时刻写成字；缺省是钟点，末尾是“现在”。
  props: { series: Array, since: String, until: String, top: Number, unit: Function, label: String, when: Function },
  setup(props) {
    const width = 640, height = 168, left = 4, bottom = 20;
    const at = ref(null);
    const count = computed(() => props.series[0]?.values.length ?? 0);
    const peak = computed(() => {
      let most = 0;
      for (let index = 0; index < count.value; index++) most = Math.max(most, props.series.reduce((sum, one) => sum + one.values[index], 0));
      return Math.max(props.top || 0, most, 1e-9);
    });
    const x = (index) => left + (index / Math.max(1, count.value - 1)) * (width - left);
    const y = (value) => 6 + (1 - value / peak.value) * (height - bottom - 6);
    const layers = computed(() => {
      const base = new Array(count.value).fill(0);
      return props.series.map((one) => {
        const low = [...base];
        one.values.forEach((value, index) => (base[index] += value));
        const upper = base.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
        const lower = low.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).reverse();
        return { ...one, points: [...upper, ...lower].join(" ") };
      });
    });
    const written = (instant) => (props.when ?? clockTime)(instant);
    const ticks = computed(() => {
      const from = new Date(props.since).getTime(), to = new Date(props.until).getTime();
      const parts = [0, 0.25, 0.5, 0.75, 1], moments = parts.map((part) => new Date(from + part * (to - from))), texts = props.when ? moments.map(written) : clockTicks(moments, to - from);
      return parts.map((part, index) => ({ x: left + part * (width - left), anchor: part === 0 ? "start" : part === 1 ? "end" : "middle", text: part === 1 && !props.when ? t("现在", "now") : index && index < 4 && texts[index] === texts[index - 1] ? "" : texts[index] }));
    });
    const hover = computed(() => (at.value === null ? null : { x: x(at.value), when: written(new Date(new Date(props.since).getTime() + ((at.value + 0.5) / count.value) * (new Date(props.until) - new Date(props.since)))),
      rows: props.series.map((one) => ({ ...one, value: one.values[at.value] })).filter((row) => row.value > 0.005).reverse() }));
    const move = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      at.value = Math.max(0, Math.min(count.value - 1, Math.round(((event.clientX - box.left) / box.width) * (count.value - 1))));
    };
    return { width, height, bottom, layers, ticks, y, peak, at, hover, move, zoneName, t };
  },
  template: `
  <figure class="chart" :class="{ brief: when }"><div class="chart-box" @pointermove="move" @pointerleave="at = null">
    <svg :viewBox="'0 0 ' + width + ' ' + height" preserveAspectRatio="none" role="img" :aria-label="label">
      <line v-if="top" :x1="4" :x2="width" :y1="y(top)" :y2="y(top)" class="chart-top" /><line :x1="4" :x2="width" :y1="y(0)" :y2="y(0)" class="chart-zero" />
      <polygon v-for="layer in layers" :key="layer.name" :points="layer.points" :style="{ fill: layer.hue }" class="chart-layer" />
      <line v-if="hover" :x1="hover.x" :x2="hover.x" :y1="6" :y2="y(0)" class="chart-cursor" /></svg>
    <span class="chart-peak">{{ unit(peak) }}</span>
    <div class="chart-ticks"><span v-for="tick in ticks" :key="tick.x" :style="{ left: (tick.x / width) * 100 + '%' }" :class="tick.anchor">{{ tick.text }}</span></div>
    <div v-if="hover" class="chart-tip" :style="hover.x > width * 0.65 ? { right: (1 - hover.x / width) * 100 + 2 + '%' } : { left: (hover.x / width) * 100 + 2 + '%' }"><b>{{ hover.when }}</b><span v-for="row in hover.rows" :key="row.name"><i :style="{ background: row.hue }"></i>{{ row.name }} <em>{{ unit(row.value) }}</em></span></div></div>
    <figcaption class="chart-names"><span v-for="layer in layers" :key="layer.name"><i :style="{ background: layer.hue }"></i>{{ layer.name }}</span><small v-if="!when" class="chart-zone">{{ zoneName() }}</small></figcaption></figure>`,
};
