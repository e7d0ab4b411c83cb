// 管理：签发令牌。
import { reactive, ref } from "vue";
import { call } from "./call.js";
import { tell } from "./dialogs.js";
import { t } from "./facts.js";

export const AdminTokens = {
  setup() {
    const token = reactive({ user_name: "", days: 30 }), errors = ref({}), issued = ref("");
    async function issue() {
      try {
        const answer = await call("POST", "/tokens", { user_name: token.user_name, lifetime_s: Math.round(token.days * 86400) });
        errors.value = {};
        issued.value = answer.token;
      } catch (problem) {
        errors.value = Object.fromEntries(problem.errors.map((each) => [each.field, each.message]));
        tell(problem.detail, { kind: "error" });
      }
    }
    const copy = () => navigator.clipboard.writeText(issued.value).then(() => tell(t("已复制", "Copied")));
    return { token, errors, issued, issue, copy, t };
  },
  template: `
  <form class="card" @submit.prevent="issue"><h2>{{ t("签发令牌", "Issue a token") }}</h2><p class="hint">{{ t("交给本人；他用它登录看板、设 SCNS_TOKEN。令牌收不回来，有效期写短些。", "Hand it to its user, who signs in with it or sets SCNS_TOKEN. Tokens cannot be revoked; keep them short-lived.") }}</p><div class="form-grid"><label class="field" :class="{ wrong: errors.user_name }"><span>{{ t("用户", "User") }}</span><input v-model="token.user_name" required><small v-if="errors.user_name" class="field-error">{{ errors.user_name }}</small></label><label class="field"><span>{{ t("几天", "Days") }}</span><input v-model.number="token.days" type="number" min="0.01" max="3650" step="any"></label></div><button class="button primary">{{ t("签发", "Issue") }}</button>
    <p v-if="issued" class="issued"><code>{{ issued }}</code><button type="button" class="button" @click="copy">{{ t("复制", "Copy") }}</button></p></form>`,
};
