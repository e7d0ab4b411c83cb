// 依赖图：左边是它等的，右边是等它的；点开去那个作业。
import { computed } from "vue";
import { segment } from "./call.js";
import { t } from "./facts.js";
import { live } from "./live.js";
import { StateTag } from "./state_tag.js";

const WIDE = 172, TALL = 52, GAP = 42;
const KINDS = { afterok: ["成功后", "after OK"], afterany: ["结束后", "after end"], afternotok: ["失败后", "after failure"], after: ["开始后", "after start"], aftercorr: ["同号的成功后", "same task OK"] };

export const DependencyGraph = {
  props: { jobId: String },
  components: { StateTag },
  setup(props) {
    const found = live(() => `/jobs/${segment(props.jobId)}/dependencies`, 5);
    const drawn = computed(() => {
      const jobs = found.data?.jobs ?? [], first = Math.min(0, ...jobs.map((job) => job.level)), columns = new Map(), places = new Map();
      for (const job of [...jobs].sort((a, b) => a.level - b.level || Number(a.job_id) - Number(b.job_id))) {
        const row = columns.get(job.level) ?? 0;
        columns.set(job.level, row + 1);
        places.set(job.job_id, { ...job, x: (job.level - first) * (WIDE + GAP), row });
      }
      // 每一列在竖着的当中。
      const most = Math.max(1, ...columns.values());
      for (const place of places.values()) place.y = (place.row + (most - columns.get(place.level)) / 2) * (TALL + 10);
      const edges = (found.data?.edges ?? []).map((edge) => {
        const from = places.get(edge.from), to = places.get(edge.to), x1 = from.x + WIDE, y1 = from.y + TALL / 2, x2 = to.x, y2 = to.y + TALL / 2;
        return { ...edge, path: `M${x1},${y1}C${x1 + GAP / 2},${y1} ${x2 - GAP / 2},${y2} ${x2 - 5},${y2}`, x: x2 - 7, y: y2, title: t(`${edge.from} ${(KINDS[edge.kind] ?? [edge.kind])[0]} ${edge.to}`, `${edge.to} ${KINDS[edge.kind]?.[1] ?? edge.kind} ${edge.from}`) };
      });
      return { places: [...places.values()], edges, width: columns.size * (WIDE + GAP) - GAP, height: most * (TALL + 10) - 10 };
    });
    return { found, drawn, WIDE, TALL, t };
  },
  template: `
  <section v-if="drawn.places.length > 1" class="card"><div class="card-head"><h2>{{ t("依赖", "Dependencies") }}</h2><small>{{ t("左边是它等的，右边是等它的", "left: what it waits for; right: what waits for it") }}</small></div>
    <div class="scroll" tabindex="0" role="region" :aria-label="t('依赖图', 'Dependency graph')"><div class="graph" :style="{ width: drawn.width + 'px', height: drawn.height + 'px' }">
      <svg :width="drawn.width" :height="drawn.height" aria-hidden="true"><g v-for="edge in drawn.edges" :key="edge.from + edge.to + edge.kind" class="graph-edge" :class="edge.kind"><path :d="edge.path"><title>{{ edge.title }}</title></path><path :d="'M' + edge.x + ',' + (edge.y - 4) + 'l7,4l-7,4z'" class="graph-head" /></g></svg>
      <a v-for="job in drawn.places" :key="job.job_id" class="graph-job" :class="{ own: job.job_id === found.data.job_id }" :href="'/jobs/' + job.job_id" :style="{ left: job.x + 'px', top: job.y + 'px', width: WIDE + 'px', height: TALL + 'px' }" :aria-current="job.job_id === found.data.job_id ? 'true' : null"><span><b class="job-id">{{ job.job_id }}</b> <bdi>{{ job.name }}</bdi></span><StateTag :state="job.state" /></a></div></div>
    <ul class="unseen"><li v-for="edge in drawn.edges" :key="edge.from + edge.to + edge.kind">{{ edge.title }}</li></ul>
    <p v-if="!found.data.complete" class="hint">{{ t("太多了，只画了一部分。", "Too many to draw; this is a part.") }}</p></section>`,
};
