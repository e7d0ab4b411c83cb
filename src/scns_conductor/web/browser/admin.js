// 管理：分区、预留、账户与 QOS、令牌、审计、调度的统计、设置。谁能做什么由 API 定。
import { computed } from "vue";
import { AdminAccounts } from "./admin_accounts.js";
import { AdminAudit } from "./admin_audit.js";
import { AdminPartitions } from "./admin_partitions.js";
import { AdminReservations } from "./admin_reservations.js";
import { AdminScheduler } from "./admin_scheduler.js";
import { AdminTokens } from "./admin_tokens.js";
import { facts, t } from "./facts.js";
import { live } from "./live.js";
import { route, setQuery } from "./route.js";

const TABS = { partitions: ["分区", "Partitions"], reservations: ["预留", "Reservations"], accounts: ["账户与 QOS", "Accounts & QOS"], tokens: ["令牌", "Tokens"], audit: ["审计", "Audit"], scheduler: ["调度", "Scheduler"], config: ["设置", "Settings"] };
const written = (value) => (value === null ? "—" : typeof value === "object" ? JSON.stringify(value) : String(value));

export default {
  components: { AdminAccounts, AdminAudit, AdminPartitions, AdminReservations, AdminScheduler, AdminTokens },
  setup() {
    // 审计只给管理员（与审计员，他们用 scns audit）。
    const tabs = Object.fromEntries(Object.entries(TABS).filter(([name]) => name !== "audit" || facts.admin));
    const tab = computed(() => (tabs[route.query.tab] ? route.query.tab : "partitions")), allowed = facts.admin || facts.operator;
    const config = live(() => (allowed && tab.value === "config" ? "/config" : null), 30);
    const settings = computed(() => Object.entries(config.data?.settings ?? {}));
    return { tabs, tab, allowed, settings, written, setQuery, t };
  },
  template: `
  <div v-if="!allowed" class="empty"><h1>403</h1><p>{{ t("这一页只给管理员。", "This page is for administrators.") }}</p><a class="button" href="/">{{ t("回总览", "Overview") }}</a></div>
  <template v-else><div class="page-head"><h1>{{ t("管理", "Admin") }}</h1></div>
    <div class="chips" role="group" :aria-label="t('管什么', 'Sections')"><button v-for="(words, name) in tabs" :key="name" class="chip" :aria-pressed="tab === name" @click="setQuery({ tab: name })">{{ t(...words) }}</button></div>
    <AdminPartitions v-if="tab === 'partitions'" /><AdminReservations v-else-if="tab === 'reservations'" /><AdminAccounts v-else-if="tab === 'accounts'" /><AdminTokens v-else-if="tab === 'tokens'" /><AdminAudit v-else-if="tab === 'audit'" /><AdminScheduler v-else-if="tab === 'scheduler'" />
    <section v-else class="card"><h2>{{ t("现行的设置", "Settings in force") }}</h2><dl class="facts"><template v-for="[name, value] in settings" :key="name"><dt>{{ name }}</dt><dd>{{ written(value) }}</dd></template></dl></section></template>`,
};
