// 管理：审计——谁、何时、从哪里做了什么，之前之后各是什么。只给管理员与审计员。
import { computed, reactive } from "vue";
import { facts, t } from "./facts.js";
import { clockTime } from "./format.js";
import { live } from "./live.js";

const PAGE = 100;
const written = (value) => (value === null ? "—" : JSON.stringify(value));
export const AdminAudit = {
  setup() {
    const wanted = reactive({ actor: "", action: "", before: null });
    const path = computed(() => {
      const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
      return "/audit?limit=" + PAGE + (query.size ? "&" + query : "");
    });
    const found = live(() => path.value, 5);
    const rows = computed(() => found.data?.audit);
    const older = () => (wanted.before = rows.value.at(-1).audit_id), newest = () => (wanted.before = null);
    return { wanted, found, rows, older, newest, PAGE, written, clockTime, facts, t };
  },
  template: `
  <section class="card"><div class="card-head"><h2>{{ t("审计", "Audit") }}</h2><span class="grow"></span><label class="field"><span>{{ t("谁", "Who") }}</span><input v-model.lazy.trim="wanted.actor" @change="newest"></label><label class="field"><span>{{ t("做了什么", "Action") }}</span><input v-model.lazy.trim="wanted.action" placeholder="node" @change="newest"></label></div>
    <p v-if="found.error" class="hint">{{ found.error.detail }}</p>
    <div class="scroll" tabindex="0" role="region" :aria-label="t('审计', 'Audit')"><table class="table"><thead><tr><th scope="col">{{ t("做了什么", "Action") }}</th><th scope="col">{{ t("对什么", "Target") }}</th><th scope="col">{{ t("谁", "Who") }}</th><th scope="col">{{ t("何时", "When") }}</th><th scope="col">{{ t("从哪里", "From") }}</th><th scope="col">{{ t("之前", "Before") }}</th><th scope="col">{{ t("之后", "After") }}</th></tr></thead>
      <tbody v-if="rows"><tr v-for="one in rows" :key="one.audit_id"><td class="job-cell"><b>{{ one.action }}</b></td><td :data-label="t('对什么', 'Target')"><bdi>{{ one.target }}</bdi></td><td :data-label="t('谁', 'Who')"><bdi>{{ one.actor }}</bdi> ({{ one.role }})</td><td :data-label="t('何时', 'When')">{{ clockTime(one.at) }}</td><td :data-label="t('从哪里', 'From')">{{ one.address ?? "—" }}</td><td :data-label="t('之前', 'Before')"><code>{{ written(one.before) }}</code></td><td :data-label="t('之后', 'After')"><code>{{ written(one.after) }}</code></td></tr>
        <tr v-if="!rows.length"><td colspan="7" class="nothing">{{ t("还没有。", "None yet.") }}</td></tr></tbody>
      <tbody v-else><tr><td colspan="7"><div class="bars"><i></i></div></td></tr></tbody></table></div>
    <p><button v-if="wanted.before" class="text-button" @click="newest">{{ t("最新的", "Newest") }}</button><button v-if="rows?.length === PAGE" class="text-button" @click="older">{{ t("更早的", "Older") }}</button></p></section>`,
};
