// 预留的日历：一行一个节点，横着是时间。拖出一块就是新的预留；拖着一个已有的移动，拖它的右边改长短；点开修改。
import { computed, onBeforeUnmount, onMounted, ref } from "vue";
import { clock, t } from "./facts.js";
import { clockTime, exact } from "./format.js";
import { expandHosts } from "./hosts.js";

const DAY_S = 86400, ROW = 26, LABEL = 110;
const SPANS = { 1: ["一天", "Day"], 7: ["一周", "Week"], 28: ["四周", "4 weeks"] };
// 拖的时候对齐到这么多秒。
const SNAP_S = { 1: 900, 7: 3600, 28: 4 * 3600 };

export const ReservationCalendar = {
  props: { reservations: Array, nodes: Array, mayEdit: Boolean },
  emits: ["draw", "open", "move"],
  setup(props, { emit }) {
    const days = ref(7), shift = ref(0), box = ref(null), width = ref(900), held = ref(null);
    let watcher = null;
    const midnight = computed(() => { const day = new Date(clock.now); day.setHours(0, 0, 0, 0); return day.getTime() / 1000; });
    const from = computed(() => midnight.value + shift.value * days.value * DAY_S), until = computed(() => from.value + days.value * DAY_S);
    const wide = computed(() => Math.max(120, width.value - LABEL));
    const x = (second) => ((second - from.value) / (until.value - from.value)) * wide.value;
    const second = (left) => from.value + (left / wide.value) * (until.value - from.value);
    const snap = (value) => { const zone = new Date().getTimezoneOffset() * 60, step = SNAP_S[days.value]; return Math.round((value - zone) / step) * step + zone; };
    const at = (instant) => new Date(instant).getTime() / 1000;
    // 一个预留在连着的几行里是一块。
    const blocks = computed(() => props.reservations.flatMap((one) => {
      const dragged = held.value?.one === one ? held.value : null;
      const start = dragged?.start ?? at(one.start_time), end = dragged?.end ?? (one.end_time ? at(one.end_time) : until.value);
      if (end <= from.value || start >= until.value) return [];
      const wanted = new Set(expandHosts(one.node_list || one.nodes || "")), runs = [];
      props.nodes.forEach((name, index) => {
        if (!wanted.has(name)) return;
        const last = runs.at(-1);
        if (last && last.to === index) last.to++;
        else runs.push({ from: index, to: index + 1 });
      });
      const left = Math.max(0, x(start)), right = Math.min(wide.value, x(end));
      return runs.map((run) => ({ one, key: one.name + run.from, narrow: right - left < 28, style: { left: LABEL + left + "px", width: Math.max(4, right - left - 1) + "px", top: run.from * ROW + 2 + "px", height: (run.to - run.from) * ROW - 4 + "px" } }));
    }));
    const lines = computed(() => {
      const step = days.value === 1 ? 3600 * 3 : days.value === 7 ? DAY_S : DAY_S * 7, found = [];
      for (let moment = from.value; moment < until.value; moment += step) found.push({ left: LABEL + x(moment), text: width.value < 640 && days.value > 1 ? String(new Date(moment * 1000).getDate()) : days.value === 1 ? clockTime(moment * 1000).slice(-5) : clockTime(moment * 1000 + 1).replace(/ ?00:00$/, "") || t("今天", "today") });
      return found;
    });
    const now = computed(() => (clock.now / 1000 > from.value && clock.now / 1000 < until.value ? LABEL + x(clock.now / 1000) : null));
    const place = (event) => {
      const edge = box.value.getBoundingClientRect();
      return { left: Math.min(wide.value, Math.max(0, event.clientX - edge.left - LABEL)), row: Math.min(props.nodes.length - 1, Math.max(0, Math.floor((event.clientY - edge.top) / ROW))) };
    };
    function press(event) {
      if (!props.mayEdit || event.button || event.target.closest(".calendar-block")) return;
      const { left, row } = place(event);
      if (event.clientX - box.value.getBoundingClientRect().left < LABEL) return;
      const start = snap(second(left));
      held.value = { kind: "new", anchor: start, row, start, end: start, to: row };
      box.value.setPointerCapture(event.pointerId);
    }
    function grab(event, one, kind) {
      if (!props.mayEdit || event.button) return;
      held.value = { kind, one, from: event.clientX, was: { start: at(one.start_time), end: at(one.end_time) }, start: at(one.start_time), end: at(one.end_time), moved: false };
      box.value.setPointerCapture(event.pointerId);
      event.preventDefault();
    }
    function move(event) {
      const mine = held.value;
      if (!mine) return;
      if (mine.kind === "new") {
        const { left, row } = place(event), there = snap(second(left));
        Object.assign(mine, { start: Math.min(mine.anchor, there), end: Math.max(mine.anchor, there), to: row });
        return;
      }
      const by = ((event.clientX - mine.from) / wide.value) * (until.value - from.value);
      if (Math.abs(event.clientX - mine.from) > 3) mine.moved = true;
      const started = mine.one.state === "ACTIVE";
      // 已经开始的，开始的时刻不能再改。
      if (mine.kind === "move" && !started) mine.start = snap(mine.was.start + by), mine.end = mine.start + mine.was.end - mine.was.start;
      else mine.end = Math.max(mine.start + SNAP_S[days.value], snap(mine.was.end + by));
    }
    function release() {
      const mine = held.value;
      held.value = null;
      if (!mine) return;
      const moments = { start_time: new Date(mine.start * 1000).toISOString(), end_time: new Date(mine.end * 1000).toISOString() };
      if (mine.kind === "new") {
        if (mine.end > mine.start) emit("draw", { ...moments, nodes: props.nodes.slice(Math.min(mine.row, mine.to), Math.max(mine.row, mine.to) + 1).join(",") });
      } else if (mine.moved) emit("move", mine.one, moments);
      else emit("open", mine.one);
    }
    const drawn = computed(() => held.value?.kind !== "new" ? null : { left: LABEL + x(held.value.start) + "px", width: Math.max(2, x(held.value.end) - x(held.value.start)) + "px", top: Math.min(held.value.row, held.value.to) * ROW + 2 + "px", height: (Math.abs(held.value.to - held.value.row) + 1) * ROW - 4 + "px" });
    const told = computed(() => (held.value && held.value.end > held.value.start ? `${clockTime(held.value.start * 1000)} — ${clockTime(held.value.end * 1000)}` : ""));
    onMounted(() => {
      watcher = new ResizeObserver(() => (width.value = box.value.clientWidth));
      watcher.observe(box.value);
    });
    onBeforeUnmount(() => watcher?.disconnect());
    return { SPANS, ROW, days, shift, box, blocks, lines, now, press, grab, move, release, drawn, told, from, until, t, clockTime, exact };
  },
  template: `
  <div class="card-head"><div class="tabs" role="group" :aria-label="t('多久', 'Span')"><button v-for="(words, name) in SPANS" :key="name" class="tab" :aria-pressed="days === Number(name)" @click="days = Number(name), shift = 0">{{ t(...words) }}</button></div>
    <button class="icon-button" :aria-label="t('往前', 'Earlier')" @click="shift--">‹</button><button class="icon-button" :aria-label="t('往后', 'Later')" @click="shift++">›</button><button v-if="shift" class="text-button" @click="shift = 0">{{ t("回到今天", "Today") }}</button>
    <span class="grow"></span><small aria-live="polite">{{ told || (mayEdit ? t("拖出一块就是新的预留；拖已有的移动，拖右边改长短", "Drag to draw a new one; drag one to move it, its right edge to change its length") : "") }}</small></div>
  <div class="calendar-days"><span v-for="line in lines" :key="line.left" :style="{ left: line.left + 'px' }">{{ line.text }}</span></div>
  <div ref="box" class="calendar" :style="{ height: nodes.length * ROW + 'px' }" @pointerdown="press" @pointermove="move" @pointerup="release" @pointercancel="release">
    <i v-for="line in lines" :key="line.left" class="calendar-line" :style="{ left: line.left + 'px' }"></i><i v-if="now" class="calendar-now" :style="{ left: now + 'px' }"></i>
    <div v-for="(name, index) in nodes" :key="name" class="calendar-row" :style="{ top: index * ROW + 'px', height: ROW + 'px' }"><span :title="name">{{ name }}</span></div>
    <div v-for="block in blocks" :key="block.key" class="calendar-block" :class="{ active: block.one.state === 'ACTIVE', narrow: block.narrow }" :style="block.style" @pointerdown="grab($event, block.one, 'move')">
      <button type="button" :title="block.one.name + ' ' + exact(block.one.start_time) + ' — ' + exact(block.one.end_time)" @keydown.enter.prevent="$emit('open', block.one)">{{ block.one.name }}</button><i v-if="mayEdit" class="calendar-edge" @pointerdown.stop="grab($event, block.one, 'stretch')"></i></div>
    <div v-if="drawn" class="calendar-drawn" :style="drawn"></div></div>`,
};
