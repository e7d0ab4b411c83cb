// 甘特图：一行一个节点；过去是实的，运行中的描到时限，计划的是浅色斜纹，预留是灰带，“现在”在左起三分之一。一个 canvas。
import { computed, onBeforeUnmount, onMounted, ref, watch } from "vue";
import { clock, facts, t } from "./facts.js";
import { clockTime, dayOf, duration } from "./format.js";

const LABEL = 120, HEAD = 28, LANE = 15, PAD = 5;

export const Gantt = {
  props: { bars: Array, bands: Array, nodes: Array },
  emits: ["open"],
  setup(props, { emit }) {
    const canvas = ref(null), box = ref(null), tip = ref(null), span = ref(7200), shift = ref(0);
    let hits = [], watcher = null, held = null;
    const from = computed(() => clock.now / 1000 - span.value / 3 + shift.value);
    // 每个节点的作业排成几道，互不重叠。
    const rows = computed(() => {
      const byNode = new Map(props.nodes.map((name) => [name, []]));
      for (const bar of props.bars) for (const node of bar.nodes) byNode.get(node)?.push(bar);
      return [...byNode].map(([name, bars]) => {
        const ends = [];
        const placed = [...bars].sort((a, b) => a.start - b.start).map((bar) => {
          let lane = ends.findIndex((end) => end <= bar.start + 1);
          if (lane < 0) lane = ends.length;
          ends[lane] = bar.end ?? Infinity;
          return { bar, lane };
        });
        return { name, placed, lanes: Math.max(1, ends.length) };
      });
    });
    // 指着一个计划中的：在它的节点上、它开始之前结束的，就是它等的。
    function waited(bar) {
      const aim = tip.value?.bar;
      return aim?.kind === "planned" && bar !== aim && bar.kind !== "ended" && bar.end && bar.end <= aim.start + 1 && bar.nodes.some((node) => aim.nodes.includes(node));
    }
    function draw() {
      const element = canvas.value, width = box.value?.clientWidth;
      if (!element || !width) return;
      const height = HEAD + rows.value.reduce((sum, row) => sum + row.lanes * LANE + PAD * 2, 0);
      const ratio = window.devicePixelRatio || 1, pen = element.getContext("2d");
      if (element.width !== Math.round(width * ratio) || element.height !== Math.round(height * ratio)) element.width = width * ratio, element.height = height * ratio, element.style.height = height + "px";
      const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name).trim();
      const label = width < 600 ? 64 : LABEL, x = (second) => label + ((second - from.value) / span.value) * (width - label);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      pen.font = `12px ${color("--sans")}`;
      pen.textBaseline = "middle";
      // 时刻的格线。
      const step = [300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800].find((each) => span.value / each <= (width < 600 ? 5 : 10)) ?? 604800;
      const zone = new Date().getTimezoneOffset() * 60;
      // 日子与前一个刻度相同的只写钟点；一格一天以上的只写日子。
      let day = new Date(clock.now).toDateString();
      for (let second = Math.ceil((from.value - zone) / step) * step + zone; second < from.value + span.value; second += step) {
        pen.strokeStyle = color("--soft"), pen.beginPath(), pen.moveTo(x(second), HEAD), pen.lineTo(x(second), height), pen.stroke();
        if (Math.abs(x(second) - x(clock.now / 1000)) > 46 && x(second) < width - 24) pen.fillStyle = color("--muted"), pen.textAlign = "center", pen.fillText(tickText(second, step, day), x(second), 12);
        day = new Date(second * 1000).toDateString();
      }
      hits = [];
      let y = HEAD;
      const hatch = pattern(pen, color("--muted")), mineHatch = pattern(pen, color("--accent"));
      for (const row of rows.value) {
        const tall = row.lanes * LANE + PAD * 2;
        pen.strokeStyle = color("--line"), pen.beginPath(), pen.moveTo(0, y + 0.5), pen.lineTo(width, y + 0.5), pen.stroke();
        pen.save(), pen.beginPath(), pen.rect(label, y, width - label, tall), pen.clip();
        for (const band of props.bands) {
          if (!band.nodes.includes(row.name)) continue;
          const left = x(band.start), right = x(band.end ?? from.value + span.value * 2);
          pen.fillStyle = color("--line"), pen.globalAlpha = 0.6, pen.fillRect(left, y, right - left, tall), pen.globalAlpha = 1;
          hits.push({ left, right, top: y, bottom: y + tall, band });
        }
        for (const { bar, lane } of row.placed) {
          const end = bar.end ?? from.value + span.value * 2, left = x(bar.start), right = Math.max(left + 2, x(end)), top = y + PAD + lane * LANE;
          if (right < label || left > width) continue;
          const mine = bar.user_name === facts.user_name, ink = mine ? color("--accent") : color("--muted");
          pen.beginPath(), pen.roundRect(left, top, right - left, LANE - 3, 3);
          if (bar.kind === "planned") {
            pen.fillStyle = ink, pen.globalAlpha = 0.12, pen.fill(), pen.globalAlpha = 1;
            pen.fillStyle = mine ? mineHatch : hatch, pen.globalAlpha = 0.5, pen.fill(), pen.globalAlpha = 1;
            pen.strokeStyle = ink, pen.setLineDash([3, 2]), pen.stroke(), pen.setLineDash([]);
          } else if (bar.kind === "running") {
            pen.fillStyle = ink, pen.globalAlpha = 0.16, pen.fill(), pen.globalAlpha = 1, pen.strokeStyle = ink, pen.stroke();
            pen.save(), pen.clip(), pen.fillStyle = ink, pen.fillRect(left, top, Math.max(0, x(clock.now / 1000) - left), LANE), pen.restore();
          } else pen.fillStyle = ink, pen.globalAlpha = 0.4, pen.fill(), pen.globalAlpha = 1;
          if (waited(bar)) pen.strokeStyle = color("--pending"), pen.lineWidth = 2, pen.beginPath(), pen.roundRect(left, top, right - left, LANE - 3, 3), pen.stroke(), pen.lineWidth = 1;
          hits.push({ left, right, top, bottom: top + LANE, bar });
          if (right - Math.max(left, label) > 46) {
            pen.save(), pen.beginPath(), pen.rect(Math.max(left, label), top, right - Math.max(left, label) - 4, LANE), pen.clip();
            // 已经跑过的一段是实的：字写得下就写在里面，写不下就写在它右边。
            const done = bar.kind === "running" ? x(clock.now / 1000) - Math.max(left, label) : 0, solid = done > 60;
            pen.fillStyle = solid ? color("--card") : color("--text"), pen.textAlign = "left", pen.font = `11px ${color("--sans")}`, pen.fillText(bar.label, Math.max(left, label) + 5 + (solid ? 0 : Math.max(0, done)), top + LANE / 2 - 1), pen.restore();
          }
        }
        pen.restore();
        pen.font = `12px ${color("--sans")}`, pen.fillStyle = color("--text"), pen.textAlign = "left";
        pen.fillText(row.name.length > label / 7 ? row.name.slice(0, Math.floor(label / 7) - 1) + "…" : row.name, 0, y + tall / 2);
        y += tall;
      }
      const now = x(clock.now / 1000);
      if (now > label && now < width) {
        pen.strokeStyle = color("--bad"), pen.lineWidth = 1.5, pen.beginPath(), pen.moveTo(now, HEAD - 6), pen.lineTo(now, height), pen.stroke(), pen.lineWidth = 1;
        pen.fillStyle = color("--card"), pen.fillRect(now - 18, 2, 36, 18), pen.fillStyle = color("--bad"), pen.textAlign = "center", pen.fillText(t("现在", "now"), now, 12);
      }
    }
    const find = (event) => hits.findLast((hit) => event.offsetX >= hit.left && event.offsetX <= hit.right && event.offsetY >= hit.top && event.offsetY <= hit.bottom);
    function move(event) {
      if (held !== null) {
        shift.value -= ((event.clientX - held) / (box.value.clientWidth - LABEL)) * span.value;
        held = event.clientX;
        return;
      }
      const hit = find(event);
      tip.value = hit ? { ...hit, x: Math.min(event.offsetX + 12, box.value.clientWidth - 230), y: event.offsetY + 12 } : null;
    }
    const down = (event) => ((held = event.clientX), canvas.value.setPointerCapture(event.pointerId));
    let pressed = 0;
    const press = (event) => ((pressed = event.clientX), down(event));
    function up(event) {
      const still = Math.abs(event.clientX - pressed) < 4, hit = find(event);
      held = null;
      if (still && hit?.bar) emit("open", hit.bar.id);
    }
    const zoom = (factor) => (span.value = Math.max(600, Math.min(60 * 86400, span.value * factor)));
    const wheel = (event) => (event.ctrlKey || event.metaKey) && (event.preventDefault(), zoom(event.deltaY > 0 ? 1.25 : 0.8));
    const keys = (event) => ({ ArrowLeft: () => (shift.value -= span.value / 8), ArrowRight: () => (shift.value += span.value / 8), "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), Home: () => (shift.value = 0) })[event.key]?.();
    watch([rows, from, () => props.bands, () => tip.value?.bar], draw);
    onMounted(() => {
      watcher = new ResizeObserver(draw);
      watcher.observe(box.value);
      window.addEventListener("scns-theme", draw);
      draw();
    });
    onBeforeUnmount(() => (watcher?.disconnect(), window.removeEventListener("scns-theme", draw)));
    const ranges = [[3600, ["一小时", "1 h"]], [7200, ["两小时", "2 h"]], [6 * 3600, ["六小时", "6 h"]], [86400, ["一天", "1 d"]], [7 * 86400, ["一周", "1 w"]]];
    return { canvas, box, tip, span, shift, ranges, move, press, up, leave: () => (tip.value = null), zoom, wheel, keys, t, clockTime, duration };
  },
  template: `
  <div class="card-head"><div class="tabs" role="group"><button v-for="[seconds, words] in ranges" :key="seconds" class="tab" :aria-pressed="span === seconds" @click="span = seconds">{{ t(...words) }}</button></div>
    <button v-if="shift" class="text-button" @click="shift = 0">{{ t("回到现在", "Back to now") }}</button><span class="grow"></span>
    <p class="map-key hint"><span><i class="key-past"></i>{{ t("结束了", "ended") }}</span><span><i class="key-run"></i>{{ t("运行，描到时限", "running, outlined to its limit") }}</span><span><i class="key-plan"></i>{{ t("计划", "planned") }}</span><span><i class="key-band"></i>{{ t("预留", "reserved") }}</span></p></div>
  <div ref="box" class="gantt"><canvas ref="canvas" tabindex="0" role="img" :aria-label="t('各节点的计划。左右键平移，加减号缩放；下面的表里有同样的内容', 'Plan by node. Arrow keys pan, plus and minus zoom; the table below has the same content')" @pointermove="move" @pointerdown="press" @pointerup="up" @pointerleave="leave" @wheel="wheel" @keydown="keys"></canvas>
    <div v-if="tip" class="chart-tip" :style="{ left: tip.x + 'px', top: tip.y + 'px' }"><template v-if="tip.bar"><b>{{ tip.bar.label }}</b><span>{{ tip.bar.user_name }} · {{ tip.bar.cpus }} CPU</span><span>{{ clockTime(tip.bar.start * 1000) }} — {{ tip.bar.end ? clockTime(tip.bar.end * 1000) : t("不限时", "no limit") }}</span></template><b v-else>{{ t("预留 ", "Reservation ") + tip.band.name }}</b></div></div>`,
};

function tickText(second, step, day) {
  const when = new Date(second * 1000);
  return step >= 86400 ? dayOf(when) : when.toDateString() === day ? clockTime(when).slice(-5) : clockTime(when);
}

function pattern(pen, ink) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const brush = tile.getContext("2d");
  brush.strokeStyle = ink, brush.beginPath(), brush.moveTo(-1, 7), brush.lineTo(7, -1), brush.stroke();
  return pen.createPattern(tile, "repeat");
}
