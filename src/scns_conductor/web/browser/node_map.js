// 节点图：一格一个节点，CPU 用了多少从下往上填，GPU 从左往右填一条；排空画斜线，下线打叉。整张图一个 canvas。
import { computed, nextTick, onBeforeUnmount, onMounted, ref, watch } from "vue";
import { t } from "./facts.js";
import { memory } from "./format.js";
import { isDown, nodeWord } from "./state_tag.js";

const HEAD = 26, GAP = 12;

export const NodeMap = {
  props: { nodes: Array },
  emits: ["open"],
  setup(props, { emit }) {
    const canvas = ref(null), box = ref(null), tip = ref(null), at = ref(-1);
    // 画好的底图：指针动的时候只把它贴上去，再描一个框。
    const layer = document.createElement("canvas");
    let cells = [], watcher = null;
    const groups = computed(() => {
      const found = new Map();
      for (const node of props.nodes) {
        const name = node.partitions.split(",")[0] || t("没有分区", "no partition");
        if (!found.has(name)) found.set(name, []);
        found.get(name).push(node);
      }
      return [...found];
    });
    // 格子的大小随节点数定：少的时候大，几千个时也全在一屏左右。
    const side = computed(() => { const n = props.nodes.length; return n <= 24 ? 76 : n <= 120 ? 44 : n <= 600 ? 26 : n <= 2500 ? 16 : 12; });
    function paint() {
      const element = layer, width = box.value?.clientWidth;
      if (!width) return;
      const size = side.value, pad = size > 20 ? 4 : 2, across = Math.max(1, Math.floor((width + pad) / (size + pad)));
      let y = 0;
      cells = [];
      const heads = [];
      for (const [name, nodes] of groups.value) {
        heads.push({ name, count: nodes.length, y });
        y += HEAD;
        nodes.forEach((node, index) => cells.push({ node, x: (index % across) * (size + pad), y: y + Math.floor(index / across) * (size + pad) }));
        y += Math.ceil(nodes.length / across) * (size + pad) + GAP;
      }
      const ratio = window.devicePixelRatio || 1;
      element.width = width * ratio, element.height = y * ratio;
      const pen = element.getContext("2d"), style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name).trim();
      const colors = { empty: color("--soft"), line: color("--line"), cpu: color("--accent"), gpu: color("--hue2"), warn: color("--warn"), bad: color("--bad"), text: color("--text"), muted: color("--muted"), card: color("--card") };
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.font = `550 13px ${style.getPropertyValue("--sans")}`;
      pen.fillStyle = colors.text;
      heads.forEach((head) => {
        pen.fillStyle = colors.text, pen.fillText(head.name, 0, head.y + 16);
        pen.fillStyle = colors.muted, pen.fillText(String(head.count), pen.measureText(head.name).width + 8, head.y + 16);
      });
      // 同样颜色的合成一笔：几千个格子也只有十来次填充。小的格子不要圆角与边。
      const small = size <= 16, corner = small ? 0 : Math.min(6, size / 6), strip = Math.max(2, size * 0.12);
      const shape = (x, top, wide, tall, radii) => (small || !radii ? pen.rect(x, top, wide, tall) : pen.roundRect(x, top, wide, tall, radii));
      const batch = (color, alpha, each) => {
        pen.beginPath();
        for (const cell of cells) each(cell.node, cell.x, cell.y);
        pen.globalAlpha = alpha, pen.fillStyle = color, pen.fill(), pen.globalAlpha = 1;
      };
      batch(colors.empty, 1, (node, x, top) => shape(x, top, size, size, corner));
      batch(colors.cpu, 0.78, (node, x, top) => {
        const used = node.cpus ? node.allocated_cpus / node.cpus : 0;
        if (used) shape(x, top + size * (1 - used), size, size * used, used > 0.9 ? corner : [0, 0, corner, corner]);
      });
      batch(colors.card, 1, (node, x, top) => node.gpus && shape(x, top, size, strip + 1, [corner, corner, 0, 0]));
      batch(colors.line, 1, (node, x, top) => node.gpus && shape(x, top, size, strip, [corner, corner, 0, 0]));
      batch(colors.gpu, 1, (node, x, top) => node.gpus && node.allocated_gpus && shape(x, top, (size * node.allocated_gpus) / node.gpus, strip, [corner, node.allocated_gpus === node.gpus ? corner : 0, 0, 0]));
      const edges = [[colors.line, small ? () => false : (node) => !isDown(node) && !node.drain], [colors.warn, (node) => !isDown(node) && node.drain], [colors.bad, (node) => isDown(node)]];
      for (const [color, chosen] of edges) {
        pen.beginPath();
        for (const { node, x, y: top } of cells) if (chosen(node)) shape(x + 0.5, top + 0.5, size - 1, size - 1, corner);
        pen.lineWidth = 1, pen.strokeStyle = color, pen.stroke();
      }
      // 排空的斜线、下线的叉：不多，一个一个画。
      for (const { node, x, y: top } of cells) {
        if (!node.drain && !isDown(node)) continue;
        pen.save(), pen.beginPath(), shape(x, top, size, size, corner), pen.clip();
        pen.strokeStyle = !isDown(node) ? colors.warn : colors.bad, pen.lineWidth = Math.max(1, size / 16), pen.beginPath();
        if (isDown(node)) pen.moveTo(x, top), pen.lineTo(x + size, top + size), pen.moveTo(x + size, top), pen.lineTo(x, top + size);
        else for (let step = -size; step < size; step += Math.max(4, size / 4)) pen.moveTo(x + step, top + size), pen.lineTo(x + step + size, top);
        pen.stroke(), pen.restore();
      }
      if (size >= 44) for (const { node, x, y: top } of cells) {
        pen.font = `500 ${size >= 70 ? 12 : 10}px ${style.getPropertyValue("--sans")}`;
        const label = shorten(pen, node.name, size - 8), wide = pen.measureText(label).width;
        pen.globalAlpha = 0.85, pen.fillStyle = colors.card, round(pen, x + 3, top + size - (size >= 70 ? 20 : 16), wide + 7, size >= 70 ? 17 : 13), pen.fill(), pen.globalAlpha = 1;
        pen.fillStyle = colors.text, pen.fillText(label, x + 6, top + size - (size >= 70 ? 7 : 6));
      }
      draw();
    }
    function draw() {
      const element = canvas.value;
      if (!element || !layer.width) return;
      const ratio = window.devicePixelRatio || 1, pen = element.getContext("2d");
      if (element.width !== layer.width || element.height !== layer.height) element.width = layer.width, element.height = layer.height, element.style.height = layer.height / ratio + "px";
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, element.width, element.height);
      pen.drawImage(layer, 0, 0);
      if (at.value >= 0 && cells[at.value]) {
        const { x, y } = cells[at.value];
        pen.setTransform(ratio, 0, 0, ratio, 0, 0);
        pen.lineWidth = 2, pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
        round(pen, x, y, side.value);
        pen.stroke();
      }
    }
    const find = (event) => cells.findIndex((cell) => event.offsetX >= cell.x && event.offsetX < cell.x + side.value && event.offsetY >= cell.y && event.offsetY < cell.y + side.value);
    function show(index) {
      at.value = index;
      const cell = cells[index];
      tip.value = cell ? { node: cell.node, left: Math.min(cell.x + side.value + 8, (box.value?.clientWidth ?? 300) - 230), top: cell.y } : null;
    }
    function keys(event) {
      const across = cells.findIndex((cell) => cell.y > cells[0].y), row = across < 0 ? cells.length : across;
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
      if (step) event.preventDefault(), show(Math.max(0, Math.min(cells.length - 1, at.value + step)));
      else if (event.key === "Enter" && cells[at.value]) emit("open", cells[at.value].node.name);
    }
    const click = (event) => { const index = find(event); if (index >= 0) emit("open", cells[index].node.name); };
    watch(() => props.nodes, paint), watch(at, draw);
    onMounted(() => {
      watcher = new ResizeObserver(paint);
      watcher.observe(box.value);
      window.addEventListener("scns-theme", paint);
      nextTick(paint);
    });
    onBeforeUnmount(() => (watcher?.disconnect(), window.removeEventListener("scns-theme", paint)));
    return { canvas, box, tip, move: (event) => show(find(event)), leave: () => show(-1), click, keys, t, memory, nodeWord };
  },
  template: `
  <div ref="box" class="node-map"><canvas ref="canvas" tabindex="0" role="img" :aria-label="t('节点图：' + nodes.length + ' 个节点。方向键移动，回车打开；下面的表里有同样的内容', 'Node map, ' + nodes.length + ' nodes. Arrow keys move, Enter opens; the table below has the same content')" @pointermove="move" @pointerleave="leave" @click="click" @keydown="keys"></canvas>
    <div v-if="tip" class="chart-tip" :style="{ left: tip.left + 'px', top: tip.top + 'px' }" role="status"><b>{{ tip.node.name }} · {{ nodeWord(tip.node.state) }}</b>
      <span>CPU <em>{{ tip.node.allocated_cpus }} / {{ tip.node.cpus }}</em></span><span>{{ t("内存", "Memory") }} <em>{{ memory(tip.node.allocated_memory) }} / {{ memory(tip.node.memory) }}</em></span>
      <span v-if="tip.node.gpus">GPU <em>{{ tip.node.allocated_gpus }} / {{ tip.node.gpus }}</em></span><span v-if="tip.node.reason" class="hint">{{ tip.node.reason }}</span></div></div>`,
};

function round(pen, x, y, width, height = width) {
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(6, width / 6));
}
function shorten(pen, text, width) {
  while (text.length > 2 && pen.measureText(text).width > width) text = text.slice(0, -2) + "…";
  return text;
}
