// 每一件送了没有：等着的、送到的、不再试的（死信），为什么；重送一件，或一个订阅的全部死信。
import { computed, reactive } from "vue";
import { call, queryString } from "./call.js";
import { tell } from "./dialogs.js";
import { readsOnly, t } from "./facts.js";
import { ago, exact } from "./format.js";
import { Icon } from "./icons.js";
import { changed, live } from "./live.js";

const PAGE = 50;
const STATES = { QUEUED: ["等着送", "Queued", "PENDING"], SENT: ["送到了", "Sent", "COMPLETED"], DEAD: ["不再试", "Dead", "FAILED"] };

export const WebhookDeliveries = {
  // watched.webhook_id 是只看哪一个订阅的，null 是全部。
  props: { webhooks: Array, watched: Object },
  components: { Icon },
  setup(props) {
    const wanted = reactive({ state: "", before: null });
    const found = live(() => "/webhooks/deliveries" + queryString({ webhook_id: props.watched.webhook_id, state: wanted.state, limit: PAGE, before: wanted.before }), 2);
    const rows = computed(() => found.data?.deliveries);
    async function redeliver(webhookId, deliveryIds) {
      try {
        const answer = await call("POST", `/webhooks/${webhookId}/redeliver`, deliveryIds ? { delivery_ids: deliveryIds } : {});
        changed();
        tell(t(`${answer.delivery_ids.length} 件排上了，再送一遍`, `${answer.delivery_ids.length} queued again`));
      } catch (problem) {
        tell(problem.detail, { kind: "error" });
      }
    }
    const older = () => (wanted.before = rows.value.at(-1).delivery_id), newest = () => (wanted.before = null);
    const error = (one) => one.error ?? (one.status_code ? "HTTP " + one.status_code : "—");
    return { wanted, rows, found, redeliver, older, newest, error, STATES, PAGE, readsOnly, ago, exact, t };
  },
  template: `
  <section class="card below"><div class="card-head"><h2>{{ t("送了没有", "Deliveries") }}</h2><span class="grow"></span>
      <button v-if="watched.webhook_id && !readsOnly()" class="text-button" @click="redeliver(watched.webhook_id)">{{ t("重送全部不再试的", "Redeliver all dead") }}</button>
      <label class="field"><span class="unseen">{{ t("哪一个订阅", "Webhook") }}</span><select :value="watched.webhook_id ?? ''" @change="watched.webhook_id = Number($event.target.value) || null, newest()"><option value="">{{ t("全部订阅", "All webhooks") }}</option><option v-for="one in webhooks" :key="one.webhook_id" :value="one.webhook_id">{{ one.webhook_id }}</option></select></label>
      <label class="field"><span class="unseen">{{ t("状态", "State") }}</span><select v-model="wanted.state" @change="newest"><option value="">{{ t("各种状态", "Any state") }}</option><option v-for="(words, state) in STATES" :key="state" :value="state">{{ t(...words) }}</option></select></label></div>
    <p v-if="found.error" class="hint" role="alert">{{ found.error.detail }}</p>
    <div class="scroll" tabindex="0" role="region" :aria-label="t('要送的每一件', 'Deliveries')"><table class="table"><thead><tr><th scope="col">{{ t("什么事", "Event") }}</th><th scope="col">{{ t("状态", "State") }}</th><th scope="col">{{ t("订阅", "Webhook") }}</th><th scope="col" class="number">{{ t("试过", "Attempts") }}</th><th scope="col">{{ t("何时", "When") }}</th><th scope="col">{{ t("那边怎么说", "Answer") }}</th><th scope="col"><span class="unseen">{{ t("重送", "Redeliver") }}</span></th></tr></thead>
      <tbody v-if="rows"><tr v-for="one in rows" :key="one.delivery_id" :title="one.payload"><td class="job-cell"><b>{{ one.event }}</b></td><td :data-label="t('状态', 'State')"><span class="state" :class="'state-' + STATES[one.state][2]"><Icon :name="STATES[one.state][2]" :size="14" />{{ t(...STATES[one.state]) }}</span></td><td :data-label="t('订阅', 'Webhook')">{{ one.webhook_id }}</td><td class="number" :data-label="t('试过', 'Attempts')">{{ one.attempts }}</td><td :data-label="t('何时', 'When')" :title="exact(one.created_at)">{{ ago(one.created_at) }}</td><td :data-label="t('那边怎么说', 'Answer')" :title="one.error">{{ error(one) }}</td>
          <td class="row-buttons"><button v-if="one.state !== 'QUEUED' && !readsOnly()" class="text-button" :aria-label="t('重送 ', 'Redeliver ') + one.delivery_id" @click="redeliver(one.webhook_id, [one.delivery_id])">{{ t("重送", "Redeliver") }}</button></td></tr>
        <tr v-if="!rows.length"><td colspan="7" class="nothing">{{ t("还没有。", "None yet.") }}</td></tr></tbody>
      <tbody v-else-if="!found.error"><tr><td colspan="7"><div class="bars"><i></i></div></td></tr></tbody></table></div>
    <p><button v-if="wanted.before" class="text-button" @click="newest">{{ t("最新的", "Newest") }}</button><button v-if="rows?.length === PAGE" class="text-button" @click="older">{{ t("更早的", "Older") }}</button></p></section>`,
};
