// 作业的一生，一条带子：等了多久、为什么等，跑了多久，怎样结束。
import { computed } from "vue";
import { clock, t } from "./facts.js";
import { clockTime, duration, exact } from "./format.js";
import { reasonText } from "./reasons.js";
import { stateClass, stateWord } from "./state_tag.js";

export const JobRibbon = {
  props: { job: Object, events: Array },
  setup(props) {
    const spans = computed(() => {
      const { job } = props, found = [];
      const changes = (props.events ?? []).filter((event) => event.to_state && event.from_state !== event.to_state);
      const end = job.end_time ? new Date(job.end_time).getTime() : clock.now;
      if (!changes.length) return [];
      changes.forEach((event, index) => {
        const from = new Date(event.event_time).getTime();
        const to = index + 1 < changes.length ? new Date(changes[index + 1].event_time).getTime() : end;
        if (["PENDING", "RUNNING", "SUSPENDED"].includes(event.to_state)) found.push({ state: event.to_state, from, to: Math.max(from, to), attempt: event.restart_count });
      });
      const total = found.reduce((sum, span) => sum + span.to - span.from, 0) || 1;
      return found.map((span, index) => ({
        ...span, share: Math.max(0.08, (span.to - span.from) / total), seconds: (span.to - span.from) / 1000,
        word: span.state === "PENDING" ? (index === found.length - 1 && job.state === "PENDING" ? reasonText(job.reason, null) : t("排队", "waited")) : span.state === "RUNNING" && job.state === "RUNNING" && index === found.length - 1 ? t("运行中", "running") : stateWord(span.state),
      }));
    });
    // 等的都是什么，久的在前；一眨眼的不说。
    const waits = computed(() => Object.entries(props.job.wait_breakdown ?? {}).filter(([, seconds]) => seconds >= 1).sort((a, b) => b[1] - a[1]));
    const limit = computed(() => (props.job.state === "RUNNING" && props.job.time_limit ? Math.min(1, (spans.value.at(-1)?.seconds ?? 0) / props.job.time_limit) : null));
    return { spans, limit, waits, reasonText, t, duration, clockTime, exact, stateClass, stateWord };
  },
  template: `
  <section class="ribbon-box" :aria-label="t('经过', 'Timeline')">
    <div class="ribbon"><div v-for="(span, index) in spans" :key="index" class="ribbon-span" :class="stateClass(span.state)" :style="{ flexGrow: span.share }" :title="stateWord(span.state) + ' ' + exact(span.from) + ' — ' + exact(span.to)">
      <i v-if="index === spans.length - 1 && limit !== null" class="ribbon-fill" :style="{ width: limit * 100 + '%' }"></i>
      <span><b>{{ span.word }}</b> {{ duration(span.seconds) }}</span></div>
      <div v-if="job.end_time" class="ribbon-end" :class="stateClass(job.state)"><span><b>{{ stateWord(job.state) }}</b></span></div></div>
    <div class="ribbon-times"><time v-for="(span, index) in spans" :key="index" :style="{ flexGrow: span.share }" :title="exact(span.from)">{{ (index === 0 ? t("提交 ", "submitted ") : span.state === "RUNNING" ? t("开始 ", "started ") : span.state === "PENDING" ? t("重新排队 ", "requeued ") : t("挂起 ", "suspended ")) + clockTime(span.from) }}</time>
      <time v-if="!job.start_time && job.expected_start_time" class="last" :title="exact(job.expected_start_time)">{{ t("预计开始 ", "expected ") + clockTime(job.expected_start_time) }}</time>
      <time v-if="job.end_time" class="last" :title="exact(job.end_time)">{{ t("结束 ", "ended ") + clockTime(job.end_time) }}</time>
      <span v-else-if="job.state === 'RUNNING' && job.time_limit" class="last">{{ t("时限还剩 ", "limit in ") + duration(job.time_limit - (spans.at(-1)?.seconds ?? 0)) }}</span></div>
    <p v-if="waits.length > 1" class="hint ribbon-waits">{{ t("等的是：", "Waited for: ") }}<span v-for="[reason, seconds] in waits" :key="reason">{{ reasonText(reason, null) }} <b>{{ duration(seconds) }}</b></span></p></section>`,
};
