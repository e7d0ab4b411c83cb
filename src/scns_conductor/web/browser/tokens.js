// 令牌的签发、列出、作废：自己的，或（管理页）大家的。
import { reactive, ref } from "vue";
import { call } from "./call.js";
import { ask, tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { ago, clockTime } from "./format.js";
import { changed, live } from "./live.js";

const SCOPES = { "": ["不限", "Unlimited"], read: ["只读", "Read-only"], submit: ["只许提交", "Submit-only"] };
export const Tokens = {
  // all 是列出大家的，不然只有自己的。
  props: { all: Boolean },
  setup(props) {
    const token = reactive({ user_name: facts.user_name, name: "", scope: "", account: "", days: 30 }), errors = ref({}), issued = ref("");
    const found = live(props.all && (facts.admin || facts.auditor) ? "/tokens?user=*" : "/tokens", 5);
    async function issue() {
      try {
        const answer = await call("POST", "/tokens", { user_name: token.user_name, name: token.name, scopes: token.scope ? [token.scope] : [], ...(token.account ? { account: token.account } : {}), lifetime_s: Math.round(token.days * 86400) });
        errors.value = {};
        issued.value = answer.token;
        changed();
      } catch (problem) {
        errors.value = Object.fromEntries(problem.errors.map((each) => [each.field, each.message]));
        tell(problem.detail, { kind: "error" });
      }
    }
    async function revoke(one) {
      const name = one.name || one.token_id;
      if (!await ask({ title: t(`作废令牌 ${name}`, `Revoke token ${name}`), text: t("一秒之内不再认它；用着它的程序会得到 401。", "It stops working within a second; programs using it get 401."), action: t("作废", "Revoke"), danger: true })) return;
      await call("DELETE", "/tokens/" + one.token_id).then(() => (changed(), tell(t("已作废", "Revoked"))), (problem) => tell(problem.detail, { kind: "error" }));
    }
    const scope = (one) => [...one.scopes.map((each) => t(...SCOPES[each])), ...(one.account ? [one.account] : [])].join("、") || t(...SCOPES[""]);
    const copy = () => navigator.clipboard.writeText(issued.value).then(() => tell(t("已复制", "Copied")));
    return { token, errors, issued, found, issue, revoke, scope, copy, ago, clockTime, facts, SCOPES, t };
  },
  template: `
  <form class="card" @submit.prevent="issue"><h2>{{ t("签发令牌", "Issue a token") }}</h2><p class="hint">{{ t("交给本人；他用它登录看板、设 SCNS_TOKEN。给程序用的写上名字与范围，有效期写短些。", "Hand it to its user, who signs in with it or sets SCNS_TOKEN. Give programs a named, scoped, short-lived one.") }}</p><div class="form-grid"><label class="field" :class="{ wrong: errors.user_name }"><span>{{ t("用户", "User") }}</span><input v-model="token.user_name" required :readonly="!facts.admin"><small v-if="errors.user_name" class="field-error">{{ errors.user_name }}</small></label><label class="field" :class="{ wrong: errors.name }"><span>{{ t("名字", "Name") }}</span><input v-model="token.name" maxlength="255"><small v-if="errors.name" class="field-error">{{ errors.name }}</small></label><label class="field"><span>{{ t("范围", "Scope") }}</span><select v-model="token.scope"><option v-for="(words, value) in SCOPES" :key="value" :value="value">{{ t(...words) }}</option></select></label><label class="field" :class="{ wrong: errors.account }"><span>{{ t("只管账户", "Only account") }}</span><input v-model="token.account"><small v-if="errors.account" class="field-error">{{ errors.account }}</small></label><label class="field"><span>{{ t("几天", "Days") }}</span><input v-model.number="token.days" type="number" min="0.01" max="3650" step="any"></label></div><button class="button primary">{{ t("签发", "Issue") }}</button>
    <p v-if="issued" class="issued"><code>{{ issued }}</code><button type="button" class="button" @click="copy">{{ t("复制", "Copy") }}</button></p></form>
  <section class="card below"><h2>{{ t("签发过的", "Issued") }}</h2><div class="scroll" tabindex="0" role="region" :aria-label="t('签发过的令牌', 'Issued tokens')"><table class="table"><thead><tr><th scope="col">{{ t("名字", "Name") }}</th><th scope="col">{{ t("用户", "User") }}</th><th scope="col">{{ t("角色", "Role") }}</th><th scope="col">{{ t("范围", "Scope") }}</th><th scope="col">{{ t("到期", "Expires") }}</th><th scope="col">{{ t("最近用", "Last used") }}</th><th scope="col"><span class="unseen">{{ t("作废", "Revoke") }}</span></th></tr></thead>
    <tbody v-if="found.data"><tr v-for="one in found.data.tokens" :key="one.token_id"><td class="job-cell"><b><bdi>{{ one.name || one.token_id }}</bdi></b></td><td :data-label="t('用户', 'User')"><bdi>{{ one.user_name }}</bdi></td><td :data-label="t('角色', 'Role')">{{ one.role }}</td><td :data-label="t('范围', 'Scope')"><bdi>{{ scope(one) }}</bdi></td><td :data-label="t('到期', 'Expires')">{{ clockTime(one.expires_at) }}</td><td :data-label="t('最近用', 'Last used')" :title="one.last_used_from">{{ ago(one.last_used_at) }}</td>
      <td class="row-buttons"><span v-if="one.revoked_at">{{ t("已作废", "Revoked") }}</span><button v-else-if="facts.admin || one.user_name === facts.user_name" class="text-button danger-text" :aria-label="t('作废 ', 'Revoke ') + (one.name || one.token_id)" @click="revoke(one)">{{ t("作废", "Revoke") }}</button></td></tr>
      <tr v-if="!found.data.tokens.length"><td colspan="7" class="nothing">{{ t("还没有。", "None yet.") }}</td></tr></tbody>
    <tbody v-else><tr><td colspan="7"><div class="bars"><i></i></div></td></tr></tbody></table></div></section>`,
};
