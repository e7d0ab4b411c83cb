// 我管的账户：协调人看自己的账户与各级下级里的人、份额与上限，添人、移出、改上限、添下级与协调人。别的账户一概不问。
import { computed, ref, watch } from "vue";
import { LIMITS, NEW_ACCOUNT, SHARE, limits } from "./account_fields.js";
import { call, segment } from "./call.js";
import { ask, tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { changed, live } from "./live.js";
import { RecordTable } from "./record_table.js";
import { route, setQuery } from "./route.js";

// 优先级只有管理员给得了。
const OWN_SHARE = SHARE.filter(([name]) => name !== "priority");

export default {
  components: { RecordTable },
  setup() {
    const names = computed(() => facts.coordinates ?? []), chosen = computed(() => (names.value.includes(route.query.account) ? route.query.account : names.value[0]));
    const path = (prefix, rest = "") => () => (chosen.value ? prefix + segment(chosen.value) + rest : null);
    const account = live(path("/accounts/"), 3), members = live(path("/associations?account="), 3);
    // 账户自己的上限、搬走、删掉，由管它上级的人做。
    const above = computed(() => names.value.includes(account.data?.parent));
    const rows = computed(() => account.data && [account.data]), own = computed(() => members.data?.associations.find((one) => !one.user_name));
    // 账户自己的一行，改得了才列：它的上限上面已经有了。
    const people = computed(() => members.data?.associations.filter((one) => one.user_name || above.value));
    const accountFields = computed(() => NEW_ACCOUNT.filter(([name]) => name !== "priority").map((field) => (field[0] === "parent" ? ["parent", field[1], "text", names.value] : field)));
    const memberFields = computed(() => [["account", ["账户", "Account"], "text", [chosen.value], "new"], ["user", ["用户", "User"], "text", "ada", "new"], ["partition", ["只管这个分区", "Only this partition"], "text", "", "new"], ...OWN_SHARE, ...LIMITS, ["comment", ["备注", "Comment"], "text", ""]]);
    const accountColumns = [[["账户", "Account"], (one) => one.name], [["上级", "Parent"], (one) => one.parent ?? "—"], [["说明", "Description"], (one) => one.description || "—"], [["份额", "Shares"], () => own.value?.shares ?? "—", true], [["上限", "Limits"], () => limits(own.value ?? {})]];
    const memberColumns = [[["用户", "User"], (one) => one.user_name || t("（账户自己）", "(the account)")], [["分区", "Partition"], (one) => one.partition || "—"], [["份额", "Shares"], (one) => one.shares, true], [["QOS", "QOS"], (one) => one.qos?.join(", ") ?? t("同上级", "inherited")], [["每人作业", "Jobs"], (one) => one.max_jobs ?? "—", true], [["上限", "Limits"], limits]];
    const nameOf = (one) => `${one.account}/${one.user_name || "—"}${one.partition ? "/" + one.partition : ""}`;
    const helper = ref("");
    async function coordinate(method, user, words) {
      try {
        await call(method, `/accounts/${segment(chosen.value)}/coordinators/${segment(user)}`);
        helper.value = "";
        changed();
        tell(words);
      } catch (problem) {
        tell(problem.detail, { kind: "error" });
      }
    }
    const add = () => helper.value && coordinate("PUT", helper.value, t(`${helper.value} 是协调人了`, `${helper.value} is a coordinator now`));
    async function drop(user) {
      if (await ask({ title: t(`${user} 不再作 ${chosen.value} 的协调人`, `${user} no longer coordinates ${chosen.value}`), action: t("去掉", "Remove"), danger: true }))
        coordinate("DELETE", user, t(`${user} 不再是协调人`, `${user} is no longer a coordinator`));
    }
    watch(chosen, () => (helper.value = ""));
    return { names, chosen, account, above, rows, people, accountFields, memberFields, accountColumns, memberColumns, nameOf, helper, add, drop, segment, setQuery, facts, t };
  },
  template: `
  <div v-if="!facts.coordinates" class="bars" :aria-label="t('正在打开', 'Opening')"><i></i><i></i></div>
  <div v-else-if="!names.length" class="empty"><h1>403</h1><p>{{ t("这一页只给账户的协调人。", "This page is for account coordinators.") }}</p><a class="button" href="/">{{ t("回总览", "Overview") }}</a></div>
  <template v-else><div class="page-head"><h1>{{ t("我管的账户", "My accounts") }}</h1><span class="grow"></span><a class="button" :href="'/jobs?account=' + segment(chosen)">{{ t("它的作业", "Its jobs") }}</a></div>
    <div class="chips" role="group" :aria-label="t('哪个账户', 'Account')"><button v-for="name in names" :key="name" class="chip" :aria-pressed="chosen === name" @click="setQuery({ account: name })"><bdi>{{ name }}</bdi></button></div>
    <RecordTable :key="'account ' + chosen" :title="t('账户', 'Account')" :noun="['账户', 'account']" :rows="rows" :columns="accountColumns" :fields="accountFields" create="/accounts" :blank="{ parent: chosen }" :path-of="(one) => '/accounts/' + segment(one.name)" :name-of="(one) => one.name" may-edit :may-change="() => above" :may-delete="() => above" :warning="() => t('连同它的下级与其中的关联；作业的历史不动。', 'With its sub-accounts and their associations; job history stays.')" />
    <RecordTable :key="'members ' + chosen" class="below" :title="t('里面的人与上限', 'Members and limits')" :noun="['关联', 'association']" :rows="people" :columns="memberColumns" :fields="memberFields" create="/associations" :blank="{ account: chosen }" :path-of="(one) => '/associations/' + one.association_id" :name-of="nameOf" may-edit :may-change="(one) => !!one.user_name || above" :may-delete="(one) => !!one.user_name" />
    <section class="card below"><h2>{{ t("协调人", "Coordinators") }}</h2>
      <ul class="plain-list"><li v-for="user in account.data?.coordinators ?? []" :key="user"><bdi>{{ user }}</bdi> <button class="text-button danger-text" :aria-label="t('去掉协调人 ', 'Remove coordinator ') + user" @click="drop(user)">{{ t("去掉", "Remove") }}</button></li></ul>
      <form class="inline-form" @submit.prevent="add"><label class="field"><span>{{ t("用户（先要在账户里）", "User (already a member)") }}</span><input v-model.trim="helper" name="coordinator" autocomplete="off"></label><button class="button">{{ t("添协调人", "Add coordinator") }}</button></form></section>
    <p class="hint under-card">{{ t("上限要 SCNS_ACCOUNTING_STORAGE_ENFORCE 含 limits 才核对。账户自己的上限由管它上级的人改。", "Limits are enforced when SCNS_ACCOUNTING_STORAGE_ENFORCE contains limits. An account's own limits are set by whoever manages its parent.") }}</p></template>`,
};
