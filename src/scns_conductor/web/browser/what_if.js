// 假如：换节点、上限、策略，拿集群自己的历史再演一遍，前后并排看。算在 API 的另一个进程里（scns simulate --live）。
import { computed, onBeforeUnmount, reactive, ref } from "vue";
import { queryString } from "./call.js";
import { eventStream } from "./event_stream.js";
import { t } from "./facts.js";
import { count, duration, percent } from "./format.js";
import { Icon } from "./icons.js";
import { LineChart } from "./line_chart.js";
import { live } from "./live.js";
import { route, setQuery } from "./route.js";
import { WhatIfResult } from "./what_if_result.js";

const SPANS = { "1day": ["一天", "Day"], "7day": ["一周", "Week"], "30day": ["一个月", "Month"] };
const POLICIES = [["live", ["照线上的", "As configured"]], ["fifo", ["先来先走，不插空", "FIFO, no backfill"]], ["easy", ["EASY 回填", "EASY backfill"]], ["conservative", ["保守回填", "Conservative backfill"]], ["sjf", ["短的先走", "Shortest first"]], ["multifactor", ["多因子优先级", "Multifactor"]]];
// 地址栏里的各项：都是 API 的参数名。
const FIELDS = ["since", "policy", "add_nodes", "remove_nodes", "cap_time_limit", "scale_load", "user_jobs", "user_cpus"];

export default {
  components: { Icon, LineChart, WhatIfResult },
  setup() {
    const span = computed(() => Object.keys(SPANS).find((each) => route.query.since === "now-" + each) ?? "7day");
    const chosen = computed(() => (route.query.policy ?? "live").split(",").filter(Boolean));
    const form = reactive(Object.fromEntries(FIELDS.map((name) => [name, route.query[name] ?? ""])));
    const nodes = live("/nodemap", 30), errors = ref({}), problem = ref(""), result = ref(null), progress = ref(null);
    let stopper = null;
    const running = computed(() => progress.value !== null);
    const keep = (name) => setQuery({ [name]: form[name] });
    function toggle(name) {
      const next = chosen.value.includes(name) ? chosen.value.filter((each) => each !== name) : [...chosen.value, name];
      setQuery({ policy: next.length ? next.join(",") : "live" });
    }
    async function run() {
      stop();
      const mine = (stopper = new AbortController());
      errors.value = {}, problem.value = "", progress.value = { stage: "reading", done: 0, total: null };
      const asked = Object.fromEntries(FIELDS.map((name) => [name, route.query[name]]));
      try {
        await eventStream("/simulate" + queryString({ ...asked, since: "now-" + span.value }), (name, data) => {
          if (stopper !== mine) return;
          if (name === "progress") progress.value = data;
          else if (name === "result") result.value = data;
          else if (name === "failed") refuse(data);
        }, mine.signal);
        if (stopper === mine && !mine.signal.aborted && !result.value && !problem.value) problem.value = t("连接断了，没有算完；请再试", "The connection broke before it finished; try again");
      } catch (error) {
        if (stopper === mine) refuse(error);
      } finally {
        if (stopper === mine) progress.value = stopper = null;
      }
    }
    function refuse(error) {
      errors.value = Object.fromEntries((error.errors ?? []).map((each) => [each.field.replace(/^query\./, ""), each.message]));
      problem.value = error.detail ?? error.message;
    }
    function stop() {
      stopper?.abort();
      stopper = progress.value = null;
    }
    onBeforeUnmount(stop);
    const part = computed(() => (progress.value?.total ? progress.value.done / progress.value.total : null));
    const doing = computed(() => !progress.value ? "" : progress.value.stage === "reading"
      ? t(`正在取历史：${count(progress.value.done)} 个作业`, `Reading history: ${count(progress.value.done)} jobs`)
      : t(`正在重演（${progress.value.policy}）：${percent(progress.value.done, progress.value.total)}`, `Replaying (${progress.value.policy}): ${percent(progress.value.done, progress.value.total)}`));
    const inputs = [
      ["add_nodes", ["加上节点", "Add nodes"], "4:64:gpu:2:mem:256G", ["几个:每个的 CPU[:gpu:几个][:mem:多大]", "count:CPUs[:gpu:n][:mem:size]"]],
      ["remove_nodes", ["去掉节点", "Remove nodes"], "node[3-4]", null],
      ["cap_time_limit", ["时限至多", "Cap the time limit"], "24h", null],
      ["user_jobs", ["每人同时至多几个作业", "Running jobs per user"], "20", null],
      ["user_cpus", ["每人同时至多几个 CPU", "CPUs per user"], "128", null],
      ["scale_load", ["负载是几倍", "Load factor"], "1.2", null],
    ];
    const now = computed(() => nodes.data?.nodes.length ?? null);
    return { SPANS, POLICIES, span, chosen, form, inputs, errors, problem, result, progress, running, part, doing, toggle, keep, run, stop, setQuery, now, t, duration };
  },
  template: `
  <div class="page-head"><h1>{{ t("假如", "What if") }}</h1><span class="hint">{{ t("拿集群自己的历史再演一遍，看换了会怎样。什么也不会真的改。", "Replay the cluster's own history with a change. Nothing is really changed.") }}</span></div>
  <div class="grid what-if">
    <form class="card stack" @submit.prevent="run">
      <fieldset><legend>{{ t("用多久的历史", "History") }}</legend><div class="tabs" role="group"><button v-for="(words, name) in SPANS" :key="name" type="button" class="tab" :aria-pressed="span === name" @click="setQuery({ since: 'now-' + name })">{{ t(...words) }}</button></div></fieldset>
      <fieldset><legend>{{ t("改什么", "Changes") }}<small v-if="now"> · {{ t("现在 " + now + " 个节点", now + " nodes now") }}</small></legend><div class="form-grid">
        <label v-for="[name, words, example, note] in inputs" :key="name" class="field" :class="{ wrong: errors[name] }"><span>{{ t(...words) }}</span>
          <input v-model.trim="form[name]" :placeholder="example" :aria-invalid="!!errors[name]" @change="keep(name)"><small v-if="errors[name]" class="field-error" role="alert">{{ errors[name] }}</small><small v-else-if="note">{{ t(...note) }}</small></label></div></fieldset>
      <fieldset><legend>{{ t("策略（至多四个一起比）", "Policies (up to four)") }}</legend><div class="chips tight"><button v-for="[name, words] in POLICIES" :key="name" type="button" class="chip" :aria-pressed="chosen.includes(name)" :disabled="!chosen.includes(name) && chosen.length >= 4" @click="toggle(name)">{{ t(...words) }}</button></div></fieldset>
      <div class="run-row"><button class="button primary" :disabled="running"><Icon name="RUNNING" :size="16" />{{ t("演一遍", "Run") }}</button><button v-if="running" type="button" class="button" @click="stop">{{ t("停下", "Stop") }}</button></div>
      <div v-if="running" class="run-progress" role="status"><progress :value="part ?? undefined" max="1" :aria-label="doing"></progress><small>{{ doing }}</small></div>
      <p v-if="problem" class="notice bad" role="alert">{{ problem }}</p>
    </form>
    <WhatIfResult v-if="result" :result="result" />
    <section v-else class="card empty"><Icon name="whatif" :size="28" /><p>{{ t("写下要改的，演一遍：等待、利用率、排队的长短，前后并排给你看。", "Describe a change and run it: waits, utilisation and queue length, before and after.") }}</p>
      <p class="hint">{{ t("命令行上是 ", "On the command line: ") }}<code>scns simulate --live --add-nodes 4:64</code></p></section>
  </div>`,
};
