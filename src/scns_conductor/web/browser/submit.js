// 提交：脚本与表单是同一份东西的两面；交之前就知道何时开始、哪里不对。
import { computed, onBeforeUnmount, reactive, ref, watch } from "vue";
import { ArrayBuilder } from "./array_builder.js";
import { call, newKey, queryString, readHeader, segment } from "./call.js";
import { DependencyBuilder } from "./dependency_builder.js";
import { tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { clockTime, duration, exact, since } from "./format.js";
import { Icon } from "./icons.js";
import { live } from "./live.js";
import { go, route } from "./route.js";
import { withOption } from "./sbatch_lines.js";
import { ScriptEditor } from "./script_editor.js";
import { ENDED_BADLY } from "./state_tag.js";

const DRAFT = "scns_draft", RETRY_MS = 3000;
// 语言换了整页重来，所以只算一次。
const FIRST = "#!/bin/bash\n#SBATCH --job-name=hello\n#SBATCH --cpus-per-task=1\n#SBATCH --mem=1G\n#SBATCH --time=10\n\necho \"" + t("你好，我在", "Hello from") + " $(hostname)\"\n";
// 字段、选项的写法、字、占位。
const FIELDS = [
  ["name", ["--job-name", "-J"], ["名字", "Name"], "hello"], ["partition", ["--partition", "-p"], ["分区", "Partition"], ""],
  ["account", ["--account", "-A"], ["账户", "Account"], ""], ["time_limit", ["--time", "-t"], ["时限", "Time limit"], "1:30:00"],
  ["cpus_per_task", ["--cpus-per-task", "-c"], ["每任务 CPU", "CPUs per task"], "1"], ["memory_per_node", ["--mem"], ["每节点内存", "Memory per node"], "4G"],
  ["tres_per_node", ["--gres"], ["GPU（每节点）", "GPUs per node"], "gpu:1"], ["tasks", ["--ntasks", "-n"], ["任务数", "Tasks"], "1"],
  ["nodes", ["--nodes", "-N"], ["节点数", "Nodes"], "1"], ["array", ["--array", "-a"], ["数组", "Array"], "0-9%4"],
  ["dependency", ["--dependency", "-d"], ["依赖", "Dependency"], "afterok:123"], ["current_working_directory", ["--chdir", "-D"], ["工作目录", "Directory"], ""],
  ["standard_output", ["--output", "-o"], ["输出文件", "Output file"], "slurm-%j.out"], ["qos", ["--qos", "-q"], ["QOS", "QOS"], ""],
];
const shown = (name, value) => (value === null || value === undefined ? "" : name === "tres_per_node" ? String(value).replaceAll("gres/", "") : String(value));

// [3, 7, 8, 9] -> 3,7-9
function ranges(numbers) {
  const found = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  return found.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)).join(",");
}

export default {
  components: { ArrayBuilder, DependencyBuilder, Icon, ScriptEditor },
  setup() {
    const kept = localStorage.getItem(DRAFT);
    const script = ref(kept ?? FIRST), parsed = ref({}), headerError = ref(""), plan = ref(null), problem = ref(null), busy = ref(false), more = ref(false);
    const partitions = live("/partitions", 30);
    // 填的时候给出的：自己的账户（没有关联的是全部账户）、QOS。
    const associations = live(`/associations?user=${segment(facts.user_name)}`, 60), accounts = live("/accounts", 60), qos = live("/qos", 60);
    const choices = computed(() => {
      const own = (associations.data?.associations ?? []).filter((one) => one.user_name === facts.user_name).map((one) => one.account);
      return { account: own.length ? [...new Set(own)] : (accounts.data?.accounts ?? []).map((one) => one.name), qos: (qos.data?.qos ?? []).map((one) => one.name) };
    });
    // 写的是多少：没有单位的数最容易想错。
    const meaning = (name) => {
      const value = valueOf(name).trim();
      if (!/^\d+$/.test(value)) return "";
      return name === "time_limit" ? t(`就是 ${duration(Number(value) * 60)}；也可写 1:30:00`, `${duration(Number(value) * 60)}; 1:30:00 works too`) : name === "memory_per_node" ? t(`就是 ${value} MiB；也可写 4G`, `${value} MiB; 4G works too`) : "";
    };
    const restored = ref(kept !== null && kept !== FIRST);
    const typed = reactive({});
    // 正填着、还没有写进脚本的一项：读脚本的回答来了也不动它。
    let editing = null;
    let planTimer = 0, headerTimer = 0, round = 0;
    const body = () => ({ job: { name: "sbatch", ...parsed.value }, script: script.value });
    async function look() {
      const mine = ++round, text = script.value;
      try {
        const found = await readHeader(text);
        // 其间又改了的，那一次改动会再来问。
        if (mine !== round || text !== script.value) return;
        headerError.value = found.error ?? "";
        if (found.error) return void (plan.value = null);
        parsed.value = found.job;
        Object.keys(typed).forEach((name) => name !== editing && delete typed[name]);
        problem.value = null;
        const answer = await call("POST", "/jobs/plan", body());
        if (mine === round) plan.value = answer;
      } catch (refused) {
        if (mine !== round) return;
        plan.value = null;
        problem.value = refused;
        // API 不在：过一会儿再问，回来了自己就好。
        if (refused.status === 0 || refused.status >= 500) planTimer = setTimeout(look, RETRY_MS);
      }
    }
    function later() {
      clearTimeout(planTimer);
      planTimer = setTimeout(look, 450);
    }
    const keep = () => localStorage.setItem(DRAFT, script.value);
    watch(script, () => {
      clearTimeout(headerTimer);
      headerTimer = setTimeout(keep, 200);
      later();
    });
    // 刚写完就走的，也留得住：去登录页是整页的跳转，不经卸下。
    addEventListener("pagehide", keep);
    onBeforeUnmount(() => (clearTimeout(planTimer), removeEventListener("pagehide", keep), keep()));
    const errorOf = (name) => problem.value?.errors?.find((each) => each.field.replace(/^(body\.)?job\./, "") === name)?.message;
    const otherErrors = computed(() => {
      if (!problem.value) return [];
      const known = FIELDS.map(([name]) => name);
      const rest = (problem.value.errors ?? []).filter((each) => !known.includes(each.field.replace(/^(body\.)?job\./, "")));
      return problem.value.errors?.length ? rest.map((each) => each.message) : [problem.value.detail];
    });
    const set = (names, value) => (script.value = withOption(script.value, names, value.trim()));
    const type = (name, value) => ((typed[name] = value), (editing = name));
    const leave = () => (editing = null);
    const valueOf = (name) => typed[name] ?? shown(name, parsed.value[name]);
    async function submit() {
      busy.value = true;
      try {
        const found = await readHeader(script.value);
        if (found.error) return void (headerError.value = found.error);
        parsed.value = found.job;
        const answer = await call("POST", "/jobs/submit", body(), { "Idempotency-Key": newKey() });
        localStorage.removeItem(DRAFT);
        script.value = FIRST;
        clearTimeout(headerTimer);
        tell(t("已提交，作业 ", "Submitted: job ") + answer.job_id);
        go("/jobs/" + answer.job_id);
        setTimeout(() => localStorage.removeItem(DRAFT));
      } catch (refused) {
        problem.value = refused;
      } finally {
        busy.value = false;
      }
    }
    // 一个数组里没有成的任务，写成 3,7-9。
    async function failedTasks(id) {
      const found = [];
      for (let cursor = null, page = 0; page < 40 && (page === 0 || cursor); page++) {
        const answer = await call("GET", "/jobs" + queryString({ job_id: id, state: ENDED_BADLY.join(","), fields: "job_id,array_task_id", limit: 1000, cursor }));
        found.push(...answer.jobs.map((job) => job.array_task_id).filter((task) => task !== null));
        cursor = answer.next_cursor;
      }
      return ranges([...new Set(found)].sort((a, b) => a - b));
    }
    async function copyFrom(id) {
      try {
        const job = await call("GET", "/jobs/" + segment(id));
        let text = job.script ?? "";
        const { job: header = {} } = await readHeader(text);
        const values = { ...job, nodes: job.minimum_nodes > 1 ? String(job.minimum_nodes) : null, tasks: job.tasks > 1 ? job.tasks : null, cpus_per_task: job.cpus_per_task > 1 ? job.cpus_per_task : null,
          time_limit: job.time_limit ? `${Math.floor(job.time_limit / 3600)}:${String(Math.floor(job.time_limit / 60) % 60).padStart(2, "0")}:${String(job.time_limit % 60).padStart(2, "0")}` : null, memory_per_node: job.memory_per_node ? job.memory_per_node + "M" : null, dependency: null };
        if (route.query.array === "failed") {
          const tasks = await failedTasks(id);
          if (tasks) values.array = tasks + (job.array_max_tasks ? "%" + job.array_max_tasks : "");
        }
        for (const [name, names] of FIELDS) if (values[name] && (header[name] === undefined || (name === "array" && route.query.array))) text = withOption(text, names, shown(name, values[name]));
        script.value = text;
        more.value = more.value || /^#SBATCH.*--(array|nodes|dependency|chdir)/m.test(text);
        restored.value = false;
      } catch (refused) {
        tell(refused.detail, { kind: "error" });
      }
    }
    if (route.query.from) copyFrom(route.query.from);
    look();
    async function open(event) {
      const file = event.target.files[0];
      if (file) script.value = await file.text();
      event.target.value = "";
    }
    const startsNow = computed(() => plan.value?.start_time && since(plan.value.start_time) > -5);
    const basic = computed(() => (more.value ? FIELDS : FIELDS.slice(0, 8)));
    // 不必去找按钮：Ctrl+Enter 就交；正填着的那一项先算填好了。
    const keys = (event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && !busy.value && !headerError.value && (event.preventDefault(), document.activeElement?.blur(), submit());
    const fresh = () => ((script.value = FIRST), (restored.value = false));
    return { script, parsed, headerError, plan, problem, busy, more, basic, partitions, valueOf, errorOf, otherErrors, set, type, leave, submit, startsNow, restored, fresh, open, choices, meaning, keys, facts, t, clockTime, exact, duration, since };
  },
  template: `
  <div class="page-head"><h1>{{ t("提交", "Submit") }}</h1><span class="grow"></span>
    <label class="button file"><Icon name="upload" :size="16" />{{ t("打开文件", "Open file") }}<input type="file" class="unseen" @change="open"></label></div>
  <p v-if="restored" class="notice good" role="status">{{ t("接着上次没有交的草稿。", "Continuing your unsubmitted draft.") }} <button class="link-button" @click="fresh">{{ t("重新开始", "Start over") }}</button></p>
  <form class="grid columns-2" @submit.prevent="submit" @keydown="keys">
    <section class="card"><div class="card-head"><h2>{{ t("脚本", "Script") }}</h2><small>{{ t("#SBATCH 行与右边的表单是同一份东西", "#SBATCH lines and the form are the same thing") }}</small></div>
      <ScriptEditor v-model="script" />
      <p v-if="headerError" class="field-error" role="alert">{{ headerError }}</p></section>
    <div class="stack">
      <section class="card plan-card" :class="{ bad: problem || headerError }" aria-live="polite"><h2>{{ t("交了之后", "When it would start") }}</h2>
        <p v-if="headerError || problem" class="plan-answer bad">{{ t("还不能交", "Not ready yet") }}</p>
        <p v-else-if="!plan" class="hint">{{ t("正在问调度器……", "Asking the scheduler…") }}</p>
        <p v-else-if="startsNow" class="plan-answer good">{{ t("现在就能开始", "Starts now") }}<small v-if="plan.nodes?.length"> · {{ plan.nodes.slice(0, 4).join(t("、", ", ")) }}{{ plan.nodes.length > 4 ? " …" : "" }}</small></p>
        <p v-else-if="plan.start_time" class="plan-answer" :title="exact(plan.start_time)">{{ t("预计 ", "Expected ") + clockTime(plan.start_time) }}<small> · {{ t(duration(-since(plan.start_time)) + "后", "in " + duration(-since(plan.start_time))) }}</small></p>
        <p v-else class="plan-answer">{{ plan.text }}</p>
        <p v-for="text in otherErrors" :key="text" class="field-error" role="alert">{{ text }}</p>
        <button class="button primary wide" type="submit" :disabled="busy || !!headerError">{{ busy ? t("正在交……", "Submitting…") : t("提交作业", "Submit job") }}</button><small class="hint centred"><kbd>Ctrl</kbd> <kbd>Enter</kbd></small></section>
      <section class="card"><h2>{{ t("要求", "Request") }}</h2>
        <div class="form-grid"><label v-for="[name, names, words, example] in basic" :key="name" class="field" :class="{ wrong: errorOf(name) }"><span>{{ t(...words) }}</span>
          <select v-if="name === 'partition'" :name="name" :value="valueOf(name)" @change="set(names, $event.target.value)"><option value="">{{ t("缺省", "default") }}</option><option v-for="one in partitions.data?.partitions ?? []" :key="one.name">{{ one.name }}</option><option v-if="valueOf(name) && !(partitions.data?.partitions ?? []).some((one) => one.name === valueOf(name))">{{ valueOf(name) }}</option></select>
          <input v-else :name="name" :list="choices[name]?.length ? 'choices-' + name : null" :value="valueOf(name)" :placeholder="example" autocomplete="off" :aria-invalid="!!errorOf(name)" @input="type(name, $event.target.value)" @change="set(names, $event.target.value)" @blur="leave">
          <datalist v-if="choices[name]?.length" :id="'choices-' + name"><option v-for="one in choices[name]" :key="one" :value="one"></option></datalist>
          <small v-if="errorOf(name)" class="field-error" role="alert">{{ errorOf(name) }}</small><small v-else-if="meaning(name)">{{ meaning(name) }}</small></label></div>
        <template v-if="more"><ArrayBuilder :value="valueOf('array')" @change="set(['--array', '-a'], $event)" /><DependencyBuilder :value="valueOf('dependency')" @change="set(['--dependency', '-d'], $event)" /></template>
        <button type="button" class="text-button" :aria-expanded="more" @click="more = !more">{{ more ? t("少一些", "Fewer") : t("更多：节点、数组、依赖、目录……", "More: nodes, array, dependency, directory…") }}</button></section>
    </div>
  </form>`,
};
