// 管理：分区、预留、账户与 QOS、令牌、webhook、审计、调度的统计、设置。谁能做什么由 API 定；审计员都看得到，什么也不能改。
import { computed } from "vue";
import { AdminAccounts } from "./admin_accounts.js";
import { AdminAudit } from "./admin_audit.js";
import { AdminPartitions } from "./admin_partitions.js";
import { AdminReservations } from "./admin_reservations.js";
import { AdminScheduler } from "./admin_scheduler.js";
import { AdminSettings } from "./admin_settings.js";
import { facts, seesAll, t } from "./facts.js";
import { route, setQuery } from "./route.js";
import { Tokens } from "./tokens.js";
import { Webhooks } from "./webhooks.js";

const TABS = { partitions: ["分区", "Partitions"], reservations: ["预留", "Reservations"], accounts: ["账户与 QOS", "Accounts & QOS"], tokens: ["令牌", "Tokens"], webhooks: ["webhook", "Webhooks"], audit: ["审计", "Audit"], scheduler: ["调度", "Scheduler"], config: ["设置", "Settings"] };

export default {
  components: { AdminAccounts, AdminAudit, AdminPartitions, AdminReservations, AdminScheduler, AdminSettings, Tokens, Webhooks },
  setup() {
    // 审计只给管理员与审计员。
    const tabs = Object.fromEntries(Object.entries(TABS).filter(([name]) => name !== "audit" || facts.admin || facts.auditor));
    const tab = computed(() => (tabs[route.query.tab] ? route.query.tab : "partitions")), allowed = seesAll();
    return { tabs, tab, allowed, setQuery, t };
  },
  template: `
  <div v-if="!allowed" class="empty"><h1>403</h1><p>{{ t("这一页只给管理员。", "This page is for administrators.") }}</p><a class="button" href="/">{{ t("回总览", "Overview") }}</a></div>
  <template v-else><div class="page-head"><h1>{{ t("管理", "Admin") }}</h1></div>
    <div class="chips" role="group" :aria-label="t('管什么', 'Sections')"><button v-for="(words, name) in tabs" :key="name" class="chip" :aria-pressed="tab === name" @click="setQuery({ tab: name })">{{ t(...words) }}</button></div>
    <AdminPartitions v-if="tab === 'partitions'" /><AdminReservations v-else-if="tab === 'reservations'" /><AdminAccounts v-else-if="tab === 'accounts'" /><Tokens v-else-if="tab === 'tokens'" all /><Webhooks v-else-if="tab === 'webhooks'" /><AdminAudit v-else-if="tab === 'audit'" /><AdminScheduler v-else-if="tab === 'scheduler'" /><AdminSettings v-else /></template>`,
};
