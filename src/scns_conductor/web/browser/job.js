// 一个作业：它的一生、输出、脚本、为什么等、要了多少用了多少，和能对它做的事。
import { computed, ref } from "vue";
import { ArrayCard } from "./array_card.js";
import { segment } from "./call.js";
import { DependencyGraph } from "./dependency_graph.js";
import { Efficiency } from "./efficiency.js";
import { readsOnly, t } from "./facts.js";
import { ago, clockTime, count, duration, exact, isLive, jobLabel, memory, runSeconds, wantedCpus, wantedGpus, wantedMemory } from "./format.js";
import { Icon } from "./icons.js";
import { ACTIONS, act, actionWord, applicable } from "./job_actions.js";
import { JobRibbon } from "./job_ribbon.js";
import { LiveOutput } from "./live_output.js";
import { live } from "./live.js";
import { ScriptView } from "./script_view.js";
import { StateTag } from "./state_tag.js";
import { UsageCurve } from "./usage_curve.js";
import { WhyCard } from "./why_card.js";

export default {
  props: { subject: String },
  components: { ArrayCard, DependencyGraph, Efficiency, Icon, JobRibbon, LiveOutput, ScriptView, StateTag, UsageCurve, WhyCard },
  setup(props) {
    const path = `/jobs/${segment(props.subject)}`;
    const every = ref(2);
    const found = live(path, every.value), events = live(path + "/events", 3), steps = live(() => `/jobs/steps?job_id=${segment(props.subject)}&live=false`, 5);
    const job = computed(() => found.data);
    // 看得到脚本的就看得到输出，也动得了它；审计员只看。
    const open = computed(() => typeof job.value?.script === "string"), mine = computed(() => open.value && !readsOnly());
    // 运行中的请节点当场采样；结束了的看存下的，多看一眼是因为最后一格写得晚一点。
    const samples = live(() => (!open.value || job.value.state === "PENDING" ? null : path + "/samples" + (isLive(job.value.state) ? "?live=true" : "")), 5);
    const whole = computed(() => job.value?.array_remaining && job.value.array_task_id === null);
    const actions = computed(() => Object.keys(ACTIONS).filter((name) => applicable(name, job.value)));
    const run = (name) => act(name, [{ id: whole.value ? job.value.array_job_id : props.subject, state: job.value.state }]);
    const details = computed(() => {
      const one = job.value, memories = wantedMemory(one);
      return [
        [t("用户", "User"), one.user_name, "/jobs?user=" + segment(one.user_name)], [t("账户", "Account"), one.account], [t("分区", "Partition"), one.partition, "/jobs?partition=" + segment(one.partition)], ["QOS", one.qos],
        [t("任务 × CPU", "Tasks × CPUs"), `${one.tasks} × ${one.cpus_per_task} = ${wantedCpus(one)}`], [t("内存", "Memory"), memories ? memory(memories) : t("没有要", "not asked")], ["GPU", wantedGpus(one) || null],
        [t("节点", "Nodes"), one.node_list ?? (one.minimum_nodes > 1 ? one.minimum_nodes : null), one.node_list && !/[[,]/.test(one.node_list) ? "/nodes/" + segment(one.node_list) : null],
        [t("时限", "Time limit"), one.time_limit ? duration(one.time_limit) : t("不限", "none")], [t("退出码", "Exit code"), one.exit_code], [t("依赖", "Dependency"), one.dependency], [t("特性", "Constraint"), one.constraints], [t("许可证", "Licences"), one.licenses],
        [t("预留", "Reservation"), one.reservation], [t("第几次", "Attempt"), one.restart_count ? one.restart_count + 1 : null], [t("工作目录", "Directory"), one.current_working_directory], [t("备注", "Comment"), one.comment],
      ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    });
    const history = computed(() => [...(events.data?.events ?? [])].reverse());
    return { found, job, samples, events, steps, mine, open, whole, actions, run, details, history, isLive, jobLabel, actionWord, ACTIONS, ago, exact, clockTime, count, duration, memory, runSeconds, segment, t };
  },
  template: `
  <div v-if="found.error?.status === 404" class="empty"><h1>{{ t("没有作业 ", "No job ") + subject }}</h1><a class="button" href="/jobs">{{ t("看全部作业", "All jobs") }}</a></div>
  <div v-else-if="!job" class="bars"><i></i><i></i><i></i><p v-if="found.error">{{ found.error.detail }}</p></div>
  <template v-else>
    <div class="page-head"><h1><span class="job-id">{{ jobLabel(job) }}</span> <bdi>{{ job.name }}</bdi></h1><StateTag :state="job.state" /><span class="grow"></span>
      <template v-if="mine"><button v-for="name in actions" :key="name" class="button" :class="{ danger: name === 'cancel' }" @click="run(name)">{{ actionWord(name) }}</button>
      <a class="button" :href="'/submit?from=' + segment(job.job_id)">{{ t("改了再交", "Resubmit") }}</a></template></div>
    <p v-if="job.error_msg && job.state !== 'PENDING'" class="notice bad">{{ job.error_msg }}</p>
    <JobRibbon :job="job" :events="events.data?.events" />
    <div class="grid columns-2">
      <div class="stack">
        <WhyCard v-if="job.state === 'PENDING' || job.state === 'SUSPENDED'" :job="job" :job-id="subject" :mine="!!mine" />
        <LiveOutput v-if="open && !whole && (job.state !== 'PENDING' || job.restart_count)" :job-id="subject" :job-name="job.name" :separate="!!job.standard_error && job.standard_error !== job.standard_output" :live="isLive(job.state)" />
        <p v-if="!open" class="card hint">{{ t("脚本与输出只给 " + job.user_name + " 与管理员看。", "Only " + job.user_name + " and administrators can see the script and output.") }}</p>
        <ArrayCard v-if="job.array_job_id" :job="job" :mine="!!mine" />
        <DependencyGraph :job-id="subject" />
        <ScriptView v-if="job.script" :script="job.script" :name="job.name" />
      </div>
      <div class="stack">
        <UsageCurve v-if="samples.data" :job="job" :samples="samples.data" />
        <Efficiency :job="job" :total="samples.data?.total" />
        <section class="card"><h2>{{ t("要求", "Request") }}</h2><dl class="facts"><template v-for="[name, value, link] in details" :key="name"><dt>{{ name }}</dt><dd><a v-if="link" :href="link">{{ value }}</a><template v-else>{{ value }}</template></dd></template></dl></section>
        <section v-if="steps.data?.steps?.length" class="card"><h2>{{ t("作业步", "Steps") }}</h2><ul class="events"><li v-for="step in steps.data.steps" :key="step.step_id"><b>{{ step.step_id }}</b> <bdi>{{ step.name }}</bdi> <StateTag :state="step.state" /><span class="grow"></span><small class="number"><template v-if="step.state === 'FAILED'">{{ t("退出码 ", "exit ") + step.exit_code }} · </template>{{ duration(runSeconds(step)) }}</small></li></ul></section>
        <section class="card"><h2>{{ t("经过", "Events") }}</h2><ol class="events"><li v-for="event in history" :key="event.event_id"><time :title="exact(event.event_time)">{{ clockTime(event.event_time) }}</time>
          <span><StateTag v-if="event.to_state && event.to_state !== event.from_state" :state="event.to_state" /> <b v-else>{{ event.cause }}</b> <small>{{ event.actor }}</small><br v-if="event.message"><small v-if="event.message">{{ event.message }}</small></span></li></ol></section>
      </div>
    </div>
  </template>`,
};
