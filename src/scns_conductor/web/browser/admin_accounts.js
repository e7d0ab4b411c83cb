// 管理：账户、用户、关联（谁在哪个账户、份额与上限）、QOS。
import { computed, ref } from "vue";
import { LIMITS, NEW_ACCOUNT, SHARE, limits } from "./account_fields.js";
import { segment } from "./call.js";
import { facts, t } from "./facts.js";
import { live } from "./live.js";
import { RecordTable } from "./record_table.js";

const ASSOCIATION = [["account", ["账户", "Account"], "text", "vision", "new"], ["user", ["用户", "User"], "text", "ada", "new"], ["partition", ["只管这个分区", "Only this partition"], "text", "", "new"], ...SHARE, ...LIMITS, ["comment", ["备注", "Comment"], "text", ""]];
const USER = [["admin_level", ["管理级别", "Admin level"], "text", ["None", "Operator", "Administrator"]], ["default_account", ["缺省账户", "Default account"], "text", ""]];
const QOS = [["name", ["名字", "Name"], "text", "high", "new"], ["description", ["说明", "Description"], "text", ""], ["priority", ["优先级", "Priority"], "number", "0"], ["preempt", ["能抢占这些 QOS", "May preempt"], "words", "low"], ["preempt_mode", ["被抢占时", "When preempted"], "text", ["", "requeue", "cancel", "suspend", "off"]], ["grace_time", ["宽限（秒）", "Grace time (s)"], "number", "0"], ["usage_factor", ["用量按几倍计", "Usage factor"], "number", "1"], ["flags", ["标志", "Flags"], "words", "DenyOnLimit"],
  ["max_jobs_per_user", ["每人同时运行", "Running per user"], "number", ""], ["max_submit_jobs_per_user", ["每人排队与运行", "Submitted per user"], "number", ""], ["max_tres_per_user", ["每人合计至多", "TRES per user"], "tres", "cpu=64,gres/gpu=4"], ["max_jobs_per_account", ["每账户同时运行", "Running per account"], "number", ""], ["max_tres_per_account", ["每账户合计至多", "TRES per account"], "tres", ""], ["min_tres_per_job", ["每个作业至少", "At least per job"], "tres", ""], ...LIMITS];
const KINDS = { accounts: ["账户", "Accounts"], associations: ["关联与上限", "Associations & limits"], users: ["用户", "Users"], qos: ["QOS", "QOS"] };

export const AdminAccounts = {
  components: { RecordTable },
  setup() {
    const kind = ref("accounts"), when = (name, path) => live(() => (kind.value === name ? path : null), 5);
    const accounts = live("/accounts", 5), associations = live("/associations", 5), users = when("users", "/users"), qos = when("qos", "/qos");
    // 账户树：上级在前，下级缩进。
    const tree = computed(() => {
      const all = accounts.data?.accounts;
      if (!all) return undefined;
      const below = (parent, depth) => all.filter((one) => (one.parent ?? null) === parent).sort((a, b) => a.name.localeCompare(b.name)).flatMap((one) => [{ ...one, depth }, ...below(one.name, depth + 1)]);
      const found = below(null, 0);
      return found.length === all.length ? found : all;
    });
    const own = (account) => associations.data?.associations.find((one) => one.account === account && !one.user_name);
    const members = (account) => (associations.data?.associations ?? []).filter((one) => one.account === account && one.user_name).length;
    const tables = {
      accounts: { noun: ["账户", "account"], create: "/accounts", fields: NEW_ACCOUNT, nameOf: (one) => one.name, pathOf: (one) => "/accounts/" + segment(one.name), mayDelete: (one) => one.name !== "root", warning: () => t("连同它的下级与其中的关联；作业的历史不动。", "With its sub-accounts and their associations; job history stays."),
        columns: [[["账户", "Account"], (one) => "\u2003".repeat(one.depth ?? 0) + one.name], [["说明", "Description"], (one) => one.description || "—"], [["单位", "Organization"], (one) => one.organization || "—"], [["份额", "Shares"], (one) => own(one.name)?.shares ?? "—", true], [["用户", "Users"], (one) => members(one.name), true], [["上限", "Limits"], (one) => limits(own(one.name) ?? {})]] },
      associations: { noun: ["关联", "association"], create: "/associations", fields: ASSOCIATION, nameOf: (one) => `${one.account}/${one.user_name || "—"}${one.partition ? "/" + one.partition : ""}`, pathOf: (one) => "/associations/" + one.association_id, mayDelete: (one) => !!one.user_name, warning: () => "",
        columns: [[["账户", "Account"], (one) => one.account], [["用户", "User"], (one) => one.user_name || t("（账户自己）", "(the account)")], [["分区", "Partition"], (one) => one.partition || "—"], [["份额", "Shares"], (one) => one.shares, true], [["QOS", "QOS"], (one) => one.qos?.join(", ") ?? t("同上级", "inherited")], [["每人作业", "Jobs"], (one) => one.max_jobs ?? "—", true], [["上限", "Limits"], limits]] },
      users: { noun: ["用户", "user"], create: undefined, fields: USER, nameOf: (one) => one.name, pathOf: (one) => "/users/" + segment(one.name), mayDelete: () => true, warning: () => t("移出全部账户；作业的历史不动。", "Removed from every account; job history stays."),
        columns: [[["用户", "User"], (one) => one.name], [["缺省账户", "Default account"], (one) => one.default_account ?? "—"], [["管理级别", "Admin level"], (one) => one.admin_level]] },
      qos: { noun: ["QOS", "QOS"], create: "/qos", fields: QOS, nameOf: (one) => one.name, pathOf: (one) => "/qos/" + segment(one.name), mayDelete: () => true, warning: () => "",
        columns: [[["QOS", "QOS"], (one) => one.name], [["优先级", "Priority"], (one) => one.priority, true], [["每人作业", "Jobs per user"], (one) => one.max_jobs_per_user ?? "—", true], [["抢占", "Preempts"], (one) => one.preempt.join(", ") || "—"], [["上限", "Limits"], limits]] },
    };
    const rows = computed(() => ({ accounts: tree.value, associations: associations.data?.associations, users: users.data?.users, qos: qos.data?.qos })[kind.value]);
    return { kind, KINDS, tables, rows, facts, t };
  },
  template: `
  <div class="tabs section-tabs" role="group" :aria-label="t('管哪一种', 'Kind')"><button v-for="(words, name) in KINDS" :key="name" class="tab" :aria-pressed="kind === name" @click="kind = name">{{ t(...words) }}</button></div>
  <RecordTable :key="kind" :title="t(...KINDS[kind])" :noun="tables[kind].noun" :rows="rows" :columns="tables[kind].columns" :fields="tables[kind].fields" :create="tables[kind].create" :path-of="tables[kind].pathOf" :name-of="tables[kind].nameOf" :may-edit="facts.admin || facts.operator" :may-delete="tables[kind].mayDelete" :warning="tables[kind].warning" />
  <p class="hint">{{ t("上限要 SCNS_ACCOUNTING_STORAGE_ENFORCE 含 limits 才核对；改了下一个调度周期生效。", "Limits are enforced when SCNS_ACCOUNTING_STORAGE_ENFORCE contains limits; changes take effect in the next cycle.") }}</p>`,
};
