// 管理：分区、预留、令牌、账户与 QOS、设置、调度的统计。谁能做什么由 API 定。
import { computed, reactive, ref } from "vue";
import { call, segment } from "./call.js";
import { ask, tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { ago, clockTime, count, duration, exact, memory } from "./format.js";
import { live, changed } from "./live.js";
import { route, setQuery } from "./route.js";

const TABS = { partitions: ["分区", "Partitions"], reservations: ["预留", "Reservations"], accounts: ["账户与 QOS", "Accounts & QOS"], tokens: ["令牌", "Tokens"], scheduler: ["调度", "Scheduler"], config: ["设置", "Settings"] };

export default {
  setup() {
    const tab = computed(() => (TABS[route.query.tab] ? route.query.tab : "partitions")), allowed = facts.admin || facts.operator;
    const when = (name, path, every) => live(() => (allowed && tab.value === name ? path : null), every);
    const partitions = when("partitions", "/partitions", 5), reservations = when("reservations", "/reservations", 5), accounts = when("accounts", "/accounts", 10), associations = when("accounts", "/associations", 10), qos = when("accounts", "/qos", 10), diag = when("scheduler", "/diag", 3), config = when("config", "/config", 30), ready = when("scheduler", "/health/ready", 5);
    const reservation = reactive({ name: "", start_time: "now", duration: "60", nodes: "", users: "" }), errors = ref({}), issued = ref(""), token = reactive({ user_name: "", days: 30 });
    async function act(doing, done) {
      try {
        const answer = await doing();
        errors.value = {};
        changed();
        if (done) tell(done);
        return answer ?? true;
      } catch (problem) {
        errors.value = Object.fromEntries(problem.errors.map((each) => [each.field, each.message]));
        tell(problem.detail, { kind: "error" });
        return null;
      }
    }
    const setState = (one, state) => act(() => call("PATCH", "/partitions/" + segment(one.name), { state }), t(`分区 ${one.name} 现在是 ${state}`, `Partition ${one.name} is now ${state}`));
    async function reserve() {
      const body = Object.fromEntries(Object.entries(reservation).filter(([, value]) => value !== "").map(([name, value]) => [name, name === "users" ? value.split(",").map((word) => word.trim()) : value]));
      if (await act(() => call("POST", "/reservations", body), t("已建立预留", "Reservation made"))) Object.assign(reservation, { name: "", nodes: "", users: "" });
    }
    async function drop(one) {
      if (await ask({ title: t(`删除预留 ${one.name}`, `Delete reservation ${one.name}`), action: t("删除", "Delete"), danger: true })) act(() => call("DELETE", "/reservations/" + segment(one.name)), t("已删除", "Deleted"));
    }
    async function issue() {
      const answer = await act(() => call("POST", "/tokens", { user_name: token.user_name, lifetime_s: Math.round(token.days * 86400) }));
      issued.value = answer?.token ?? "";
    }
    const copy = () => navigator.clipboard.writeText(issued.value).then(() => tell(t("已复制", "Copied")));
    const statistics = computed(() => Object.entries(diag.data?.statistics ?? {}).filter(([, value]) => typeof value === "number" || typeof value === "string"));
    const rpcs = computed(() => (diag.data?.statistics.rpcs_by_message_type ?? []).slice(0, 40));
    const settings = computed(() => Object.entries(config.data?.settings ?? {}));
    const checks = computed(() => Object.entries(ready.data?.checks ?? {}).filter(([, value]) => value?.status));
    const written = (value) => (value === null ? "—" : typeof value === "object" ? JSON.stringify(value) : String(value));
    return { TABS, tab, allowed, setQuery, partitions, reservations, accounts, associations, qos, statistics, rpcs, settings, checks, reservation, errors, reserve, drop, setState, token, issue, issued, copy, written, facts, t, ago, clockTime, count, duration, exact, memory };
  },
  template: `
  <div v-if="!allowed" class="empty"><h1>403</h1><p>{{ t("这一页只给管理员。", "This page is for administrators.") }}</p><a class="button" href="/">{{ t("回总览", "Overview") }}</a></div>
  <template v-else><div class="page-head"><h1>{{ t("管理", "Admin") }}</h1></div>
    <div class="chips" role="group" :aria-label="t('管什么', 'Sections')"><button v-for="(words, name) in TABS" :key="name" class="chip" :aria-pressed="tab === name" @click="setQuery({ tab: name })">{{ t(...words) }}</button></div>
    <section v-if="tab === 'partitions'" class="card scroll" tabindex="0" :aria-label="t('分区', 'Partitions')"><table class="table"><thead><tr><th scope="col">{{ t("分区", "Partition") }}</th><th scope="col">{{ t("状态", "State") }}</th><th scope="col">{{ t("节点", "Nodes") }}</th><th scope="col" class="number">{{ t("最长时限", "Longest limit") }}</th><th scope="col" class="number">{{ t("层级", "Tier") }}</th><th scope="col">{{ t("账户", "Accounts") }}</th><th scope="col">{{ t("改", "Change") }}</th></tr></thead>
      <tbody><tr v-for="one in partitions.data?.partitions ?? []" :key="one.name"><td class="job-cell"><b>{{ one.name }}</b><small v-if="one.is_default"> · {{ t("缺省", "default") }}</small></td><td :data-label="t('状态', 'State')">{{ one.state }}</td><td :data-label="t('节点', 'Nodes')">{{ one.nodes }}</td><td class="number" :data-label="t('最长', 'Longest')">{{ one.max_time ? duration(one.max_time) : t("不限", "none") }}</td><td class="number" :data-label="t('层级', 'Tier')">{{ one.priority_tier }}</td><td :data-label="t('账户', 'Accounts')">{{ one.allow_accounts?.join(", ") ?? t("都可以", "any") }}</td><td><button v-if="facts.admin" class="button" @click="setState(one, one.state === 'UP' ? 'DRAIN' : 'UP')">{{ one.state === "UP" ? t("停收作业", "Stop accepting") : t("恢复", "Resume") }}</button></td></tr></tbody></table></section>
    <div v-else-if="tab === 'reservations'" class="grid columns-2"><section class="card"><h2>{{ t("预留", "Reservations") }}</h2><p v-if="!reservations.data?.reservations.length" class="hint">{{ t("现在没有。", "None now.") }}</p><ul class="my-jobs"><li v-for="one in reservations.data?.reservations ?? []" :key="one.name"><b>{{ one.name }}</b><span :title="exact(one.start_time)">{{ clockTime(one.start_time) }} — {{ one.end_time ? clockTime(one.end_time) : t("不限", "open") }} <small>{{ written(one.nodes ?? one.node_list) }}</small></span><button class="button danger" @click="drop(one)">{{ t("删除", "Delete") }}</button></li></ul></section>
      <form class="card" @submit.prevent="reserve"><h2>{{ t("新建", "New") }}</h2><div class="form-grid"><label v-for="[name, words, example] in [['name', ['名字', 'Name'], 'maintenance'], ['start_time', ['开始', 'Start'], 'now+1hour'], ['duration', ['多久', 'Duration'], '120'], ['nodes', ['节点', 'Nodes'], 'node[1-2]'], ['users', ['给谁用', 'Users'], 'ada,bob']]" :key="name" class="field" :class="{ wrong: errors[name] }"><span>{{ t(...words) }}</span><input v-model="reservation[name]" :placeholder="example"><small v-if="errors[name]" class="field-error">{{ errors[name] }}</small></label></div><button class="button primary">{{ t("建立", "Create") }}</button></form></div>
    <div v-else-if="tab === 'accounts'" class="stack"><section class="card scroll" tabindex="0" :aria-label="t('账户', 'Accounts')"><h2>{{ t("账户", "Accounts") }}</h2><table class="table"><tbody><tr v-for="one in accounts.data?.accounts ?? []" :key="one.name"><td class="job-cell"><b>{{ one.name }}</b></td><td>{{ one.parent ?? "" }}</td><td>{{ one.description }}</td></tr></tbody></table></section>
      <section class="card scroll" tabindex="0" aria-label="QOS"><h2>QOS</h2><table class="table"><thead><tr><th scope="col">QOS</th><th scope="col" class="number">{{ t("优先级", "Priority") }}</th><th scope="col" class="number">{{ t("每人作业", "Jobs per user") }}</th><th scope="col">{{ t("每人资源", "TRES per user") }}</th><th scope="col">{{ t("抢占", "Preempts") }}</th></tr></thead><tbody><tr v-for="one in qos.data?.qos ?? []" :key="one.name"><td class="job-cell"><b>{{ one.name }}</b></td><td class="number" :data-label="t('优先级', 'Priority')">{{ one.priority }}</td><td class="number" :data-label="t('每人作业', 'Jobs')">{{ one.max_jobs_per_user ?? t("不限", "none") }}</td><td>{{ written(one.max_tres_per_user) }}</td><td>{{ one.preempt.join(", ") || "—" }}</td></tr></tbody></table></section>
      <section class="card scroll" tabindex="0" :aria-label="t('关联', 'Associations')"><h2>{{ t("关联", "Associations") }}</h2><table class="table"><thead><tr><th scope="col">{{ t("账户", "Account") }}</th><th scope="col">{{ t("用户", "User") }}</th><th scope="col" class="number">{{ t("份额", "Shares") }}</th><th scope="col">QOS</th><th scope="col" class="number">{{ t("作业上限", "Max jobs") }}</th></tr></thead><tbody><tr v-for="one in associations.data?.associations ?? []" :key="one.association_id"><td class="job-cell">{{ one.account }}</td><td>{{ one.user_name || "—" }}</td><td class="number">{{ one.shares }}</td><td>{{ one.qos?.join(", ") }}</td><td class="number">{{ one.max_jobs ?? "—" }}</td></tr></tbody></table></section></div>
    <form v-else-if="tab === 'tokens'" class="card" @submit.prevent="issue"><h2>{{ t("签发令牌", "Issue a token") }}</h2><p class="hint">{{ t("交给本人；他用它登录看板、设 SCNS_TOKEN。令牌收不回来，有效期写短些。", "Hand it to its user, who signs in with it or sets SCNS_TOKEN. Tokens cannot be revoked; keep them short-lived.") }}</p><div class="form-grid"><label class="field" :class="{ wrong: errors.user_name }"><span>{{ t("用户", "User") }}</span><input v-model="token.user_name" required><small v-if="errors.user_name" class="field-error">{{ errors.user_name }}</small></label><label class="field"><span>{{ t("几天", "Days") }}</span><input v-model.number="token.days" type="number" min="0.01" max="3650" step="any"></label></div><button class="button primary">{{ t("签发", "Issue") }}</button>
      <p v-if="issued" class="issued"><code>{{ issued }}</code><button type="button" class="button" @click="copy">{{ t("复制", "Copy") }}</button></p></form>
    <div v-else-if="tab === 'scheduler'" class="grid columns-2"><section class="card"><h2>{{ t("统计", "Statistics") }}</h2><dl class="facts"><template v-for="[name, value] in statistics" :key="name"><dt>{{ name }}</dt><dd>{{ typeof value === "number" ? count(value) : value }}</dd></template></dl></section><div class="stack"><section class="card"><h2>{{ t("健康", "Health") }}</h2><dl class="facts"><template v-for="[name, value] in checks" :key="name"><dt>{{ name }}</dt><dd>{{ value.status }}<small v-if="value.remedy"> · {{ value.remedy }}</small></dd></template></dl></section><section class="card"><h2>{{ t("请求", "Requests") }}</h2><dl class="facts"><template v-for="one in rpcs" :key="one.message_type"><dt>{{ one.message_type }}</dt><dd>{{ count(one.count) }} · {{ (one.average_time / 1000).toFixed(1) }} ms</dd></template></dl></section></div></div>
    <section v-else class="card"><h2>{{ t("现行的设置", "Settings in force") }}</h2><dl class="facts"><template v-for="[name, value] in settings" :key="name"><dt>{{ name }}</dt><dd>{{ written(value) }}</dd></template></dl></section></template>`,
};
