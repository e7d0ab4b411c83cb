// 几条线画在一起比：同样的时刻，零线总在；悬停给出各条的值。
import { computed, ref } from "vue";
import { clockTicks, clockTime, zoneName } from "./format.js";

const WIDTH = 640, HEIGHT = 168, BOTTOM = 20;

export const LineChart = {
  props: { series: Array, since: Number, until: Number, top: Number, unit: Function, label: String },
  setup(props) {
    const at = ref(null);
    const count = computed(() => Math.max(0, ...props.series.map((one) => one.values.length)));
    const peak = computed(() => Math.max(props.top || 0, 1e-9, ...props.series.flatMap((one) => one.values)));
    const x = (index) => ((index + 0.5) / Math.max(1, count.value)) * WIDTH;
    const y = (value) => 6 + (1 - value / peak.value) * (HEIGHT - BOTTOM - 6);
    const lines = computed(() => props.series.map((one) => ({ ...one, points: one.values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ") })));
    const moment = (part) => clockTime(new Date((props.since + part * (props.until - props.since)) * 1000));
    const ticks = computed(() => {
      const parts = [0, 0.25, 0.5, 0.75, 1], texts = clockTicks(parts.map((part) => new Date((props.since + part * (props.until - props.since)) * 1000)), (props.until - props.since) * 1000);
      return parts.map((part, index) => ({ left: part * 100, anchor: part === 0 ? "start" : part === 1 ? "end" : "middle", text: texts[index] }));
    });
    const hover = computed(() => at.value === null ? null : { x: x(at.value), when: moment((at.value + 0.5) / count.value), rows: props.series.map((one) => ({ ...one, value: one.values[at.value] })).filter((row) => row.value !== undefined) });
    const move = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      at.value = Math.max(0, Math.min(count.value - 1, Math.floor(((event.clientX - box.left) / box.width) * count.value)));
    };
    return { WIDTH, HEIGHT, peak, lines, ticks, y, at, hover, move, zoneName };
  },
  template: `
  <figure class="chart"><div class="chart-box" @pointermove="move" @pointerleave="at = null">
    <svg :viewBox="'0 0 ' + WIDTH + ' ' + HEIGHT" preserveAspectRatio="none" role="img" :aria-label="label">
      <line v-if="top" x1="0" :x2="WIDTH" :y1="y(top)" :y2="y(top)" class="chart-top" /><line x1="0" :x2="WIDTH" :y1="y(0)" :y2="y(0)" class="chart-zero" />
      <polyline v-for="line in lines" :key="line.name" :points="line.points" class="chart-line" :class="{ dashed: line.dashed }" :style="{ stroke: line.hue }" />
      <line v-if="hover" :x1="hover.x" :x2="hover.x" :y1="6" :y2="y(0)" class="chart-cursor" /></svg>
    <span class="chart-peak">{{ unit(peak) }}</span>
    <div class="chart-ticks"><span v-for="tick in ticks" :key="tick.left" :style="{ left: tick.left + '%' }" :class="tick.anchor">{{ tick.text }}</span></div>
    <div v-if="hover" class="chart-tip" :style="hover.x > WIDTH * 0.65 ? { right: (1 - hover.x / WIDTH) * 100 + 2 + '%' } : { left: (hover.x / WIDTH) * 100 + 2 + '%' }"><b>{{ hover.when }}</b><span v-for="row in hover.rows" :key="row.name"><i :style="{ background: row.hue }"></i>{{ row.name }} <em>{{ unit(row.value) }}</em></span></div></div>
    <figcaption class="chart-names"><span v-for="line in lines" :key="line.name"><i class="line-key" :class="{ dashed: line.dashed }" :style="{ borderColor: line.hue }"></i>{{ line.name }}</span><small class="chart-zone">{{ zoneName() }}</small></figcaption></figure>`,
};
