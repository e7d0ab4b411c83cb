// 数组的一个任务（或还没有拆开的一行）：整个数组怎样了，前后的任务，没有成的再交一次。
import { computed } from "vue";
import { segment } from "./call.js";
import { t } from "./facts.js";
import { count } from "./format.js";
import { live } from "./live.js";
import { ENDED_BADLY, StateTag, stateClass, stateWord } from "./state_tag.js";

export const ArrayCard = {
  props: { job: Object, mine: Boolean },
  components: { StateTag },
  setup(props) {
    const array = computed(() => props.job.array_job_id), task = computed(() => props.job.array_task_id);
    const found = live(() => "/jobs/arrays?job_id=" + segment(array.value));
    const all = computed(() => found.data?.arrays[0]);
    const states = computed(() => Object.entries(all.value?.by_state ?? {}));
    const failed = computed(() => states.value.filter(([state]) => ENDED_BADLY.includes(state)).reduce((sum, [, n]) => sum + n, 0));
    const step = computed(() => props.job.array_step ?? 1);
    const more = computed(() => (task.value - (props.job.array_base ?? 0)) / step.value + 1 < (all.value?.total ?? 0));
    const listed = (state) => `/jobs?job_id=${array.value}` + (state ? "&state=" + state : "&arrays=all");
    return { array, task, all, states, failed, step, more, listed, count, stateClass, stateWord, t };
  },
  template: `
  <section v-if="all" class="card array-card" :aria-label="t('数组', 'Array')"><div class="card-head"><h2>{{ t("数组 ", "Array ") + array }}</h2><small>{{ t(count(all.done) + " / " + count(all.total) + " 个任务结束了", count(all.done) + " of " + count(all.total) + " tasks ended") }}</small><span class="grow"></span>
      <template v-if="task !== null"><a v-if="task >= step" class="text-button" :href="'/jobs/' + array + '_' + (task - step)" :aria-label="t('上一个任务', 'Previous task')">← {{ task - step }}</a><a v-if="more" class="text-button" :href="'/jobs/' + array + '_' + (task + step)" :aria-label="t('下一个任务', 'Next task')">{{ task + step }} →</a></template>
      <a :href="listed()">{{ t("各个任务", "All tasks") }}</a></div>
    <span class="array-bar whole"><i v-for="[state, n] in states" :key="state" :class="stateClass(state)" :style="{ flexGrow: n }" :title="stateWord(state) + ' ' + n"></i></span>
    <ul class="array-states"><li v-for="[state, n] in states" :key="state"><a :href="listed(state)"><StateTag :state="state" /> <b class="number">{{ count(n) }}</b></a></li></ul>
    <a v-if="mine && failed && all.done === all.total" class="button" :href="'/submit?from=' + array + '&array=failed'">{{ t("没有成的 " + count(failed) + " 个再交一次", "Resubmit the " + count(failed) + " that failed") }}</a></section>`,
};
