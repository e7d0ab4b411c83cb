// 为什么还没有开始：一句话，缺什么，等谁，点了就真的照做的建议。
import { computed, reactive } from "vue";
import { call, segment } from "./call.js";
import { tell } from "./dialogs.js";
import { t } from "./facts.js";
import { clockTime, count, exact, memory, since } from "./format.js";
import { Icon } from "./icons.js";
import { changed, live } from "./live.js";
import { reasonText } from "./reasons.js";

const RESOURCES = { cpu: ["CPU", "CPU"], memory: ["内存", "Memory"], gpu: ["GPU", "GPU"] };

export const WhyCard = {
  props: { job: Object, jobId: String, mine: Boolean },
  components: { Icon },
  setup(props) {
    const why = live(() => `/jobs/${segment(props.jobId)}/why`, 5);
    const busy = reactive(new Set());
    // 停着的：说为什么停、大约何时接着走。
    const waiting = computed(() => props.job.state === "PENDING"), title = computed(() => (waiting.value ? t("为什么还没有开始", "Why it has not started") : t("为什么停着", "Why it is stopped")));
    const shortages = computed(() => why.data?.shortages ?? []);
    // 有逐项的就不再说那一大段话。
    const lines = computed(() => {
      if (shortages.value.length) return shortages.value;
      const text = (why.data?.text ?? "").split("\n").map((line) => line.trim()).filter(Boolean);
      return why.data?.expected_start_time ? text.slice(0, 1) : waiting.value ? text : text.map((line) => line.replace(/。$/, ""));
    });
    // 轮流用 CPU 的何时换、抢得到的何时许抢：逐项的里没有。
    const also = computed(() => {
      const { time_slices: slices, preempts, preempts_from: from } = why.data ?? {}, found = [];
      if (slices && waiting.value) found.push(t(`分区 ${slices.partition} 的作业轮流用 CPU，一个 CPU 至多分给 ${slices.most} 个作业，每次 ${slices.time_slice_s} 秒；下一次换 ${clockTime(slices.next_turn_time)}`, `Jobs in ${slices.partition} take turns on the CPUs, ${slices.most} at most on each, ${slices.time_slice_s} s at a time; next turn ${clockTime(slices.next_turn_time)}`));
      if (preempts) found.push(t(`可以抢占 ${preempts.join("、")}，${clockTime(from)} 起`, `May preempt ${preempts.join(", ")} from ${clockTime(from)}`));
      return found;
    });
    const sharing = computed(() => [...(why.data?.time_slices?.active ?? []), ...(why.data?.time_slices?.parked ?? [])].filter((holder) => holder.job_id !== props.jobId));
    async function apply(suggestion) {
      busy.add(suggestion.text);
      const before = Object.fromEntries(Object.keys(suggestion.changes).map((name) => [name, undo(props.job, name)]));
      try {
        await call("PATCH", `/jobs/${segment(props.jobId)}`, suggestion.changes);
        changed();
        const path = `/jobs/${segment(props.jobId)}`;
        tell(t("已照做：", "Applied: ") + (suggestion.summary ?? suggestion.text), { undo: () => call("PATCH", path, before).then(changed, (problem) => tell(problem.detail, { kind: "error" })) });
      } catch (problem) {
        tell(problem.detail, { kind: "error" });
      } finally {
        busy.delete(suggestion.text);
      }
    }
    // 各样资源：要多少、空着多少，差的有多少。
    const bars = computed(() => (why.data?.resources ?? []).map(({ name, needed, free }) => {
      const write = name === "memory" ? memory : count;
      return { name, label: RESOURCES[name] ? t(...RESOURCES[name]) : name.toUpperCase(), needed: write(needed), free: write(free), short: free < needed ? write(needed - free) : null, part: Math.min(1, free / needed) };
    }));
    // 何时：多半何时，至迟何时；现在就能的不写时刻。
    const soon = (instant) => since(instant) > -5;
    const start = (item) => !item.start_time ? "" : soon(item.start_time) ? t("现在就能开始", "starts now") + (item.good_until ? t(`（${clockTime(item.good_until)} 之前改）`, ` (if changed before ${clockTime(item.good_until)})`) : "") : item.expected_kind === "estimate" ? t(`大约 ${clockTime(item.start_time)} 开始`, `starts about ${clockTime(item.start_time)}`) : t(`至迟 ${clockTime(item.start_time)} 开始`, `starts by ${clockTime(item.start_time)}`);
    return { why, lines, also, start, sharing, waiting, title, apply, busy, bars, t, clockTime, exact, reasonText };
  },
  template: `
  <section class="card why" :aria-label="title"><div class="card-head"><Icon name="bulb" /><h2>{{ title }}</h2></div>
    <div v-if="why.error" class="hint">{{ why.error.detail }}</div>
    <div v-else-if="!why.data" class="bars"><i></i><i></i></div>
    <template v-else>
      <p v-if="!waiting" class="why-lead">{{ why.data.resume_time ? t("大约 ", "Goes on about ") + clockTime(why.data.resume_time) + t(" 接着走", "") : t("要人恢复，或等 CPU 空出来", "Waits to be resumed, or for free CPUs") }}</p>
      <p v-else class="why-lead">{{ reasonText(why.data.reason, null) || lines[0] }}<template v-if="why.data.jobs_ahead_count">{{ t("；前面有 " + why.data.jobs_ahead_count + " 个作业", "; " + why.data.jobs_ahead_count + (why.data.jobs_ahead_count > 1 ? " jobs ahead" : " job ahead")) }}</template><template v-if="why.data.expected_start_time">{{ t("；", "; ") }}<template v-if="why.data.probable_start_time">{{ t("多半 ", "probably ") }}<b :title="exact(why.data.probable_start_time)">{{ clockTime(why.data.probable_start_time) }}</b>{{ t("，", ", ") }}</template>{{ why.data.expected_kind === "estimate" ? t("大约 ", "about ") : t("至迟 ", "by ") }}<b :title="exact(why.data.expected_start_time)">{{ clockTime(why.data.expected_start_time) }}</b>{{ t(" 开始", "") }}</template></p>
      <p v-for="line in lines" :key="line" class="hint why-line">{{ line }}</p>
      <p v-for="line in also" :key="line" class="hint why-line">{{ line }}</p>
      <div v-if="bars.length" class="why-needs"><div v-for="item in bars" :key="item.name" class="why-need" :class="{ short: item.short }"><b>{{ item.label }}</b><span class="gauge"><i :style="{ width: item.part * 100 + '%' }"></i></span><span class="number">{{ t("要 ", "needs ") + item.needed + t("，空 ", ", free ") + item.free }}<em v-if="item.short">{{ t("，差 ", ", short ") + item.short }}</em></span></div></div>
      <div v-if="why.data.waiting_for?.length" class="why-holders"><h3>{{ why.data.reason === "Dependency" ? t("等这些作业", "Waiting for") : t("等这些作业让出来", "Waiting for these to free up") }}</h3>
        <a v-for="holder in why.data.waiting_for.slice(0, 6)" :key="holder.job_id" :href="'/jobs/' + holder.job_id"><b>{{ holder.job_id }}</b> <span>{{ holder.user_name }}</span> <small v-if="holder.expected_end_time" :title="exact(holder.expected_end_time)">{{ t("至迟 ", "by ") + clockTime(holder.expected_end_time) }}</small></a></div>
      <div v-if="why.data.jobs_ahead?.length" class="why-holders"><h3>{{ t("排在前面的", "Ahead in the queue") }}</h3>
        <a v-for="id in why.data.jobs_ahead.slice(0, 6)" :key="id" :href="'/jobs/' + id"><b>{{ id }}</b></a><small v-if="why.data.jobs_ahead_count > 6">{{ t("等 " + why.data.jobs_ahead_count + " 个", "and " + (why.data.jobs_ahead_count - 6) + " more") }}</small></div>
      <div v-if="sharing.length" class="why-holders"><h3>{{ t("轮流的还有", "Taking turns with") }}</h3>
        <a v-for="holder in sharing.slice(0, 6)" :key="holder.job_id" :href="'/jobs/' + holder.job_id"><b>{{ holder.job_id }}</b> <span>{{ holder.user_name }}</span> <small v-if="holder.suspended">{{ t("停着", "stopped") }}</small></a></div>
      <div v-if="mine && why.data.suggestions?.length" class="why-suggestions"><h3>{{ t("这样改能更早", "Start sooner") }}</h3>
        <button v-for="item in why.data.suggestions" :key="item.text" class="button suggestion" :disabled="busy.has(item.text)" @click="apply(item)"><Icon name="right" :size="15" /><span>{{ item.summary ?? item.text }}<b v-if="item.summary"> → {{ start(item) }}</b></span></button></div>
    </template></section>`,
};

// 撤销要写回去的值，写成 PATCH 认的样子。
function undo(job, name) {
  const value = job[name];
  if (name === "time_limit") return value === null ? "UNLIMITED" : `0:${value}`;
  if (name === "memory_per_node" || name === "memory_per_cpu") return value === null ? null : `${value}M`;
  if (name === "nodes") return job.maximum_nodes && job.maximum_nodes !== job.minimum_nodes ? `${job.minimum_nodes}-${job.maximum_nodes}` : String(job.minimum_nodes);
  return value;
}
