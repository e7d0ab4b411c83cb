// webhook 的订阅：新建、修改、停下、试一试、删除；管理员看得到大家的，别人只有自己的。
import { reactive, ref } from "vue";
import { call } from "./call.js";
import { tell } from "./dialogs.js";
import { clock, facts, readsOnly, t } from "./facts.js";
import { ago, count } from "./format.js";
import { Icon } from "./icons.js";
import { changed, live } from "./live.js";
import { RecordTable } from "./record_table.js";
import { WebhookDeliveries } from "./webhook_deliveries.js";

const FIELDS = [
  ["url", ["往哪里送", "URL"], "text", "https://hooks.example.org/scns"], ["events", ["哪些事", "Events"], "words", "job.ended,job.started"], ["format", ["样子", "Format"], "text", ["json", "slack", "feishu", "dingtalk", "wecom"], "new"],
  ["scope", ["谁的事", "Scope"], "text", ["user", "account", "cluster"], "new"], ["account", ["哪个账户（scope 是 account 时）", "Account (for scope account)"], "text", "", "new"], ["secret", ["密钥（不写就造一个）", "Secret (made if empty)"], "text", ""],
];
const NEW = { events: ["job.ended"], format: "json", scope: "user" };

export const Webhooks = {
  components: { Icon, RecordTable, WebhookDeliveries },
  setup() {
    const found = live("/webhooks", 5), config = live("/config", 30), issued = ref(null), watched = reactive({ webhook_id: null });
    const target = (one) => ({ user: t("自己的作业", "own jobs"), account: t("账户 ", "account ") + one.account, cluster: t("整个集群", "the whole cluster") })[one.scope];
    const health = (one) => !one.active ? t("停着", "paused") : one.failures ? t(`接连 ${one.failures} 次没有送到`, `${one.failures} failures in a row`) + (new Date(one.resume_at).getTime() > clock.now + 5000 ? t("，", "; ") + ago(one.resume_at) + t("再试", " it tries again") : "") : t("好", "good");
    const columns = [
      [["编号", "Number"], (one) => one.webhook_id], [["往哪里送", "URL"], (one) => one.url], [["哪些事", "Events"], (one) => one.events.join(", ")], [["谁的事", "Scope"], target], ...(facts.admin ? [[["谁定的", "Owner"], (one) => one.user_name]] : []),
      [["怎样", "Health"], health], [["积压", "Queued"], (one) => count(one.queued) + (one.dropped ? t(`（没有记下 ${count(one.dropped)}）`, ` (${count(one.dropped)} dropped)`) : ""), true],
    ];
    const pathOf = (one) => "/webhooks/" + one.webhook_id;
    async function act(path, body, done, method = "POST") {
      try {
        await call(method, path, body);
        changed();
        tell(done);
      } catch (problem) {
        tell(problem.detail, { kind: "error" });
      }
    }
    async function ping(one) {
      watched.webhook_id = one.webhook_id;
      await act(pathOf(one) + "/ping", undefined, t("送出了一件试一试的，结果在下面", "A test was sent; see below"));
    }
    const turn = (one) => act(pathOf(one), { active: !one.active }, one.active ? t("停下了", "Paused") : t("打开了，从此刻算起", "Resumed, from now on"), "PATCH");
    const copy = () => navigator.clipboard.writeText(issued.value.secret).then(() => tell(t("已复制", "Copied")));
    return { found, config, issued, watched, columns, FIELDS, NEW, pathOf, nameOf: (one) => String(one.webhook_id), ping, turn, copy, readsOnly, t };
  },
  template: `
  <p v-if="config.data && !config.data.settings.webhooks" class="notice" role="status"><Icon name="warn" :size="16" />{{ t("没有打开 webhook：管理员写上设置 webhooks = true 之后才能订阅。", "Webhooks are off: an administrator has to set webhooks = true.") }}</p>
  <p v-if="issued" class="notice good issued-once" role="status"><span>{{ t("核对签名的密钥，只在这里看得到：", "The signing secret, shown only here: ") }}<code>{{ issued.secret }}</code></span><button class="button" @click="copy">{{ t("复制", "Copy") }}</button></p>
  <RecordTable :title="t('订阅', 'Webhooks')" :noun="['订阅', 'webhook']" :rows="found.data?.webhooks" :columns="columns" :fields="FIELDS" :blank="NEW" create="/webhooks" :path-of="pathOf" :name-of="nameOf" :may-edit="!readsOnly()" :warning="() => t('还没有送的也没有了。', 'Undelivered events go with it.')" @created="issued = $event.secret ? $event : null">
    <template #actions="{ row }"><button class="text-button" :aria-label="t('试一试 ', 'Test ') + row.webhook_id" @click="ping(row)">{{ t("试一试", "Test") }}</button><button class="text-button" @click="turn(row)">{{ row.active ? t("停下", "Pause") : t("打开", "Resume") }}</button></template></RecordTable>
  <p class="hint under-card">{{ t("一件事一个 POST，带签名，至少送一次；怎样核对、有哪些事、群机器人怎样写，见文档 webhooks.md。", "One signed POST an event, delivered at least once; docs/webhooks.md says how to verify it and which events exist.") }}</p>
  <WebhookDeliveries :webhooks="found.data?.webhooks ?? []" :watched="watched" />`,
};
