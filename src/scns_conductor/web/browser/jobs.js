// 作业的列表：条件、次序、翻页都由 API 做，全部写在地址栏里。
import { computed, onMounted, onUnmounted, reactive, ref, watch } from "vue";
import { queryString } from "./call.js";
import { facts, t } from "./facts.js";
import { ago, clockTime, count, duration, exact, jobLabel, jobPath, memory, runSeconds, waitSeconds, wantedCpus, wantedGpus, wantedMemory } from "./format.js";
import { Icon } from "./icons.js";
import { ACTIONS, act, actionWord, applicable } from "./job_actions.js";
import { live } from "./live.js";
import { reasonText } from "./reasons.js";
import { go, route, setQuery } from "./route.js";
import { STATES, StateTag, stateClass, stateWord } from "./state_tag.js";

const PAGE = 50;
const FIELDS = "job_id,array_job_id,array_task_id,array_remaining,name,user_name,account,partition,qos,state,reason,error_msg," +
  "submit_time,start_time,end_time,expected_start_time,time_limit,suspended_s,tasks,cpus_per_task,minimum_nodes,allocated_cpus," +
  "allocated_memory,allocated_gres,memory_per_node,memory_per_cpu,tres_per_node,tres_per_job,tres_per_task,node_list,exit_code,priority";
const FILTERS = [["user", ["用户", "User"]], ["account", ["账户", "Account"]], ["partition", ["分区", "Partition"]], ["name", ["名字", "Name"]],
  ["qos", ["QOS", "QOS"]], ["node", ["节点", "Node"]], ["job_id", ["作业号", "Job id"]]];
const TIMES = ["submit_after", "submit_before", "start_after", "start_before", "end_after", "end_before"];
const TIME_WORDS = { submit: ["提交", "Submitted"], start: ["开始", "Started"], end: ["结束", "Ended"] };
const moment = (value) => ({ text: value ? ago(value) : "—", title: exact(value) });
// 列：字、可按它排序的字段、怎样写、是不是数。
const COLUMNS = {
  state: { word: ["状态", "State"], sort: "state" },
  user: { word: ["用户", "User"], sort: "user_name", cell: (job) => ({ text: job.user_name, link: "/jobs?user=" + encodeURIComponent(job.user_name) }) },
  account: { word: ["账户", "Account"], cell: (job) => ({ text: job.account ?? "—" }) },
  partition: { word: ["分区", "Partition"], cell: (job) => ({ text: job.partition }) },
  qos: { word: ["QOS", "QOS"], cell: (job) => ({ text: job.qos ?? "—" }) },
  cpus: { word: ["CPU", "CPUs"], number: true, cell: (job) => ({ text: count(wantedCpus(job)) }) },
  memory: { word: ["内存", "Memory"], number: true, cell: (job) => ({ text: memory(wantedMemory(job)), title: wantedMemory(job) ? wantedMemory(job) + " MiB" : "" }) },
  gpus: { word: ["GPU", "GPUs"], number: true, cell: (job) => ({ text: wantedGpus(job) || "—" }) },
  submit: { word: ["提交", "Submitted"], sort: "submit_time", cell: (job) => moment(job.submit_time) },
  start: { word: ["开始", "Started"], sort: "start_time", cell: (job) => moment(job.start_time) },
  end: { word: ["结束", "Ended"], sort: "end_time", cell: (job) => moment(job.end_time) },
  wait: { word: ["等了", "Waited"], number: true, cell: (job) => ({ text: duration(waitSeconds(job)) }) },
  elapsed: { word: ["运行", "Elapsed"], number: true, elapsed: true },
  limit: { word: ["时限", "Limit"], number: true, cell: (job) => ({ text: job.time_limit ? duration(job.time_limit) : t("不限", "none") }) },
  expected: { word: ["预计开始", "Expected start"], cell: (job) => ({ text: job.state === "PENDING" && job.expected_start_time ? clockTime(job.expected_start_time) : "—", title: exact(job.expected_start_time) }) },
  nodes: { word: ["节点", "Nodes"], cell: (job) => ({ text: job.node_list ?? "—" }) },
  reason: { word: ["说明", "Note"], cell: (job) => note(job) },
  exit: { word: ["退出码", "Exit"], number: true, cell: (job) => ({ text: job.exit_code ?? "—" }) },
  priority: { word: ["优先级", "Priority"], number: true, cell: (job) => ({ text: job.priority ?? "—" }) },
};
const SHOWN = ["state", "user", "partition", "cpus", "memory", "submit", "elapsed", "nodes", "reason"];

function note(job) {
  if (job.state === "PENDING") return { text: reasonText(job.reason, job.error_msg), title: [job.reason, job.error_msg].filter((word) => word && word !== "None").join(" · ") };
  if (job.state === "FAILED" && job.exit_code) return { text: t("退出码 ", "exit ") + job.exit_code, title: job.error_msg ?? "" };
  return { text: job.error_msg ?? "", title: job.error_msg ?? "" };
}

export default {
  components: { Icon, StateTag },
  setup() {
    const query = computed(() => route.query);
    const folded = computed(() => !query.value.state && !query.value.job_id && query.value.arrays !== "all");
    const cursors = reactive([]);
    const filterKeys = ["state", ...FILTERS.map(([key]) => key), ...TIMES];
    const target = computed(() => "/jobs" + queryString({
      ...Object.fromEntries(filterKeys.map((key) => [key, query.value[key]])),
      sort: query.value.sort ?? "-job_id", limit: PAGE, cursor: query.value.cursor, fields: FIELDS, arrays: folded.value ? "folded" : null,
    }));
    const list = live(target), totals = live("/dashboard", 4);
    const jobs = computed(() => list.data?.jobs ?? []);
    const arrays = computed(() => jobs.value.filter((job) => folded.value && job.array_job_id).map((job) => job.array_job_id));
    const progress = live(() => (arrays.value.length ? "/jobs/arrays?job_id=" + arrays.value.join(",") : null));
    const arrayOf = (job) => folded.value && job.array_job_id ? progress.data?.arrays.find((each) => each.job_id === job.array_job_id) : null;
    const shown = computed(() => (query.value.cols ? query.value.cols.split(",").filter((name) => COLUMNS[name]) : SHOWN));
    const selected = reactive(new Set()), focus = ref(-1), choosing = ref(false), filtering = ref(filterKeys.some((key) => key !== "state" && key !== "user" && query.value[key]));
    const idOf = (job) => (folded.value && job.array_job_id ? job.array_job_id : jobPath(job).slice(6));
    watch(target, () => (selected.clear(), (focus.value = -1)));
    const chosen = computed(() => jobs.value.filter((job) => selected.has(job.job_id)));
    const doable = computed(() => Object.keys(ACTIONS).filter((name) => !["suspend", "resume"].includes(name) && chosen.value.some((job) => applicable(name, job))));
    const bulk = async (name) => {
      const done = await act(name, chosen.value.filter((job) => applicable(name, job)).map((job) => ({ id: idOf(job), state: job.state })));
      if (done !== null) selected.clear();
    };
    const all = computed({ get: () => jobs.value.length > 0 && chosen.value.length === jobs.value.length, set: (on) => jobs.value.forEach((job) => (on ? selected.add(job.job_id) : selected.delete(job.job_id))) });
    const toggle = (job) => (selected.has(job.job_id) ? selected.delete(job.job_id) : selected.add(job.job_id));
    function sort(column) {
      if (!column.sort) return;
      const now = query.value.sort ?? "-job_id";
      setQuery({ sort: now === "-" + column.sort ? column.sort : "-" + column.sort, cursor: null });
      cursors.length = 0;
    }
    const sorted = (column) => { const now = query.value.sort ?? "-job_id"; return !column.sort ? null : now === column.sort ? "ascending" : now === "-" + column.sort ? "descending" : "none"; };
    const filter = (changes) => (setQuery({ ...changes, cursor: null }), (cursors.length = 0));
    // 打到一半时列表变了，打的字还在（v-model.lazy）；离开那一格才算数。
    const conditions = new Proxy({}, { get: (_, key) => query.value[key] ?? "", set: (_, key, value) => (filter({ [key]: value }), true) });
    const next = () => (cursors.push(query.value.cursor ?? null), setQuery({ cursor: list.data.next_cursor }, { replace: false }));
    const previous = () => setQuery({ cursor: cursors.pop() ?? null }, { replace: false });
    const column = (name, on) => setQuery({ cols: (on ? [...shown.value, name] : shown.value.filter((each) => each !== name)).join(",") });
    const groups = computed(() => {
      const counts = totals.data?.jobs.by_state ?? {};
      const sum = (states) => states.reduce((total, state) => total + (counts[state] ?? 0), 0);
      const bad = STATES.filter((state) => !["PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED"].includes(state));
      return [["", t("全部", "All"), STATES], ["PENDING", stateWord("PENDING"), ["PENDING"]], ["RUNNING", stateWord("RUNNING"), ["RUNNING"]],
        ["COMPLETED", stateWord("COMPLETED"), ["COMPLETED"]], [bad.join(","), t("没有成", "Failed"), bad], ["CANCELLED", stateWord("CANCELLED"), ["CANCELLED"]]]
        .map(([value, word, states]) => ({ value, word, total: sum(states), here: (query.value.state ?? "") === value }));
    });
    function keys(event) {
      if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      const job = jobs.value[focus.value];
      if (event.key === "j") focus.value = Math.min(focus.value + 1, jobs.value.length - 1);
      else if (event.key === "k") focus.value = Math.max(focus.value - 1, 0);
      else if (event.key === "Enter" && job && event.target.tagName !== "A" && event.target.tagName !== "BUTTON") go(jobPath(job));
      else if (event.key === "x" && job) toggle(job);
      else if (event.key === "c" && job && applicable("cancel", job)) act("cancel", [{ id: idOf(job), state: job.state }]);
      else return;
      document.querySelectorAll("tr.job")[focus.value]?.scrollIntoView({ block: "nearest" });
    }
    onMounted(() => document.addEventListener("keydown", keys));
    onUnmounted(() => document.removeEventListener("keydown", keys));
    const elapsed = (job) => ({ text: duration(runSeconds(job)), part: job.state === "RUNNING" && job.time_limit ? Math.min(1, runSeconds(job) / job.time_limit) : null });
    // 没有什么可写的格：窄的屏幕上不占一行。
    const blank = (name, job) => ["—", ""].includes(name === "elapsed" ? elapsed(job).text : COLUMNS[name].cell?.(job).text);
    const mine = computed({ get: () => query.value.user === facts.user_name, set: (on) => filter({ user: on ? facts.user_name : null }) });
    return { query, list, jobs, groups, shown, COLUMNS, FILTERS, TIMES, TIME_WORDS, arrayOf, selected, toggle, all, chosen, doable, bulk, focus, sort, sorted, filter, conditions, next, previous,
      choosing, filtering, column, elapsed, blank, mine, folded, facts, cursors, t, count, jobLabel, jobPath, stateClass, stateWord, actionWord };
  },
  template: `
  <div class="page-head"><h1>{{ t("作业", "Jobs") }}</h1><span class="grow"></span>
    <label class="switch"><input type="checkbox" v-model="mine"><span>{{ t("只看我的", "Mine only") }}</span></label>
    <button class="button" :aria-expanded="filtering" @click="filtering = !filtering"><Icon name="search" :size="16" />{{ t("条件", "Filters") }}</button>
    <button class="button" :aria-expanded="choosing" @click="choosing = !choosing"><Icon name="columns" :size="16" />{{ t("列", "Columns") }}</button>
    <a class="button primary" href="/submit"><Icon name="submit" :size="16" />{{ t("提交", "Submit") }}</a></div>
  <div class="chips" role="group" :aria-label="t('按状态', 'By state')">
    <button v-for="group in groups" :key="group.value" class="chip" :aria-pressed="group.here" @click="filter({ state: group.value })">{{ group.word }} <b>{{ count(group.total) }}</b></button>
  </div>
  <form v-if="filtering" class="filters card" @submit.prevent>
    <label v-for="[key, words] in FILTERS" :key="key" class="field"><span>{{ t(...words) }}</span><input :name="key" v-model.lazy="conditions[key]"></label>
    <label v-for="key in TIMES" :key="key" class="field"><span>{{ t(...TIME_WORDS[key.split("_")[0]]) }} {{ key.endsWith("after") ? t("晚于", "after") : t("早于", "before") }}</span>
      <input :name="key" v-model.lazy="conditions[key]" placeholder="now-1day"></label>
    <label class="switch"><input type="checkbox" name="arrays" :checked="query.arrays === 'all'" @change="filter({ arrays: $event.target.checked ? 'all' : null })"><span>{{ t("数组逐个列出", "List every array task") }}</span></label>
  </form>
  <fieldset v-if="choosing" class="columns card"><legend class="unseen">{{ t("显示哪些列", "Columns shown") }}</legend>
    <label v-for="(one, name) in COLUMNS" :key="name"><input type="checkbox" :checked="shown.includes(name)" @change="column(name, $event.target.checked)">{{ t(...one.word) }}</label></fieldset>
  <div v-if="list.error" class="notice bad" role="alert">{{ list.error.detail }}</div>
  <div v-if="chosen.length" class="bulk" role="region" :aria-label="t('对选中的', 'Selection')">
    <b>{{ t("选中 " + chosen.length + " 个", chosen.length + " selected") }}</b>
    <button v-for="name in doable" :key="name" class="button" :class="{ danger: name === 'cancel' }" @click="bulk(name)">{{ actionWord(name) }}</button>
    <button class="text-button" @click="selected.clear()">{{ t("都不选", "Clear") }}</button></div>
  <div class="card table-box" tabindex="0" role="region" :aria-label="t('作业的表', 'Jobs table')">
    <table class="table">
      <thead><tr>
        <th class="tick"><input type="checkbox" v-model="all" :aria-label="t('选中这一页', 'Select page')"></th>
        <th scope="col" :aria-sort="sorted({ sort: 'job_id' })"><button class="sort" @click="sort({ sort: 'job_id' })">{{ t("作业", "Job") }}<i></i></button></th>
        <th v-for="name in shown" :key="name" scope="col" :class="{ number: COLUMNS[name].number }" :aria-sort="sorted(COLUMNS[name])">
          <button v-if="COLUMNS[name].sort" class="sort" @click="sort(COLUMNS[name])">{{ t(...COLUMNS[name].word) }}<i></i></button><template v-else>{{ t(...COLUMNS[name].word) }}</template></th>
      </tr></thead>
      <tbody v-if="list.data">
        <tr v-for="(job, index) in jobs" :key="job.job_id" class="job" :class="{ on: selected.has(job.job_id), focus: index === focus, own: job.user_name === facts.user_name }">
          <td class="tick"><input type="checkbox" :checked="selected.has(job.job_id)" :aria-label="t('选中 ', 'Select ') + jobLabel(job)" @change="toggle(job)"></td>
          <td class="job-cell"><a :href="jobPath(job)"><span class="job-id">{{ folded && job.array_job_id ? job.array_job_id : jobLabel(job) }}</span> <bdi class="job-name">{{ job.name }}</bdi></a>
            <a v-if="arrayOf(job)" class="array" :href="'/jobs?job_id=' + job.array_job_id" :title="t('列出各个任务', 'List the tasks')">
              <span class="array-bar"><i v-for="(n, state) in arrayOf(job).by_state" :key="state" :class="stateClass(state)" :style="{ flexGrow: n }" :title="stateWord(state) + ' ' + n"></i></span>
              <small>{{ count(arrayOf(job).done) }} / {{ count(arrayOf(job).total) }}</small></a></td>
          <td v-for="name in shown" :key="name" :class="[{ number: COLUMNS[name].number, none: blank(name, job) }, 'column-' + name]" :data-label="t(...COLUMNS[name].word)">
            <StateTag v-if="name === 'state'" :state="job.state" />
            <template v-else-if="name === 'elapsed'"><span>{{ elapsed(job).text }}</span><span v-if="elapsed(job).part !== null" class="meter" :class="{ near: elapsed(job).part > 0.9 }" :title="t('时限的 ', 'of the limit: ') + Math.round(elapsed(job).part * 100) + '%'"><i :style="{ width: elapsed(job).part * 100 + '%' }"></i></span></template>
            <template v-else v-for="cell in [COLUMNS[name].cell(job)]"><a v-if="cell.link" :href="cell.link">{{ cell.text }}</a><span v-else :title="cell.title || null">{{ cell.text }}</span></template>
          </td></tr>
        <tr v-if="!jobs.length"><td :colspan="shown.length + 2" class="nothing">{{ t("没有这样的作业。", "No such jobs.") }} <a href="/jobs">{{ t("看全部", "Show all") }}</a> · <a href="/submit">{{ t("提交一个", "Submit one") }}</a></td></tr>
      </tbody>
      <tbody v-else-if="!list.error"><tr v-for="n in 8" :key="n"><td :colspan="shown.length + 2"><div class="bars"><i></i></div></td></tr></tbody>
    </table></div>
  <div class="pager"><button class="button" :disabled="!query.cursor" @click="previous">{{ t("上一页", "Previous") }}</button>
    <button class="button" :disabled="!list.data?.next_cursor" @click="next">{{ t("下一页", "Next") }}</button></div>`,
};
