// 什么压着利用率：每一样都真的去掉再计划一遍，按一下才问。
import { ref } from "vue";
import { call } from "./call.js";
import { t } from "./facts.js";
import { count } from "./format.js";

const SPANS = [[3600, ["今后一小时", "Next hour"]], [4 * 3600, ["今后四小时", "Next 4 hours"]], [86400, ["今后一天", "Next day"]]];

export const ClusterWhy = {
  setup() {
    const horizon = ref(3600), found = ref(null), busy = ref(false), problem = ref("");
    async function look() {
      busy.value = true, problem.value = "";
      try {
        found.value = await call("GET", "/cluster/why?horizon_s=" + horizon.value);
      } catch (refused) {
        problem.value = refused.detail;
      } finally {
        busy.value = false;
      }
    }
    return { SPANS, horizon, found, busy, problem, look, count, t };
  },
  template: `
  <section class="card below" :aria-label="t('什么压着利用率', 'What holds utilisation back')"><div class="card-head"><h2>{{ t("什么压着利用率", "What holds utilisation back") }}</h2><span class="grow"></span>
      <label class="field inline"><span class="unseen">{{ t("看多久", "Period") }}</span><select v-model.number="horizon"><option v-for="[seconds, words] in SPANS" :key="seconds" :value="seconds">{{ t(...words) }}</option></select></label><button class="button" :disabled="busy" @click="look">{{ busy ? t("正在试……", "Trying…") : t("问调度器", "Ask the scheduler") }}</button></div>
    <p v-if="problem" class="notice bad" role="alert">{{ problem }}</p>
    <p v-if="!found" class="hint">{{ t("每一样都真的去掉、把队列重新计划一遍，说会多用多少 CPU·小时；什么也不改。", "Each cause is really taken away and the queue planned again; nothing is changed.") }}</p>
    <template v-else><p>{{ t("照现在的计划用 ", "As planned: ") }}<b>{{ found.busy_cpu_hours }}</b> / {{ found.capacity_cpu_hours }} {{ t("CPU·小时", "CPU hours") }}{{ t("；在等的还要 ", "; waiting jobs want ") }}{{ found.wanted_cpu_hours }}</p>
      <p v-if="!found.causes.length" class="hint">{{ Object.keys(found.waiting).length ? t("没有试出能多用的：在等的都在等运行中的结束。", "Nothing would give more: what waits, waits for running jobs.") : t("没有作业在排队：空着只是因为没有人用。", "No job is pending.") }}</p>
      <ol class="causes"><li v-for="(cause, index) in found.causes" :key="cause.text" :class="{ best: index === found.best }"><b>+{{ cause.gain_cpu_hours }}</b> <span>{{ cause.text }}<small v-if="cause.starts_now > 0"> · {{ t("当场能启动 ", "starts now: ") + cause.starts_now }}</small><code v-if="cause.action">{{ cause.action }}</code></span></li></ol></template></section>`,
};
