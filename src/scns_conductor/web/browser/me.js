// 我的令牌与 webhook：自己签发、作废、订阅；谁都有这一页。
import { computed } from "vue";
import { t } from "./facts.js";
import { route, setQuery } from "./route.js";
import { Tokens } from "./tokens.js";
import { Webhooks } from "./webhooks.js";

const TABS = { tokens: ["令牌", "Tokens"], webhooks: ["webhook", "Webhooks"] };

export default {
  components: { Tokens, Webhooks },
  setup() {
    const tab = computed(() => (TABS[route.query.tab] ? route.query.tab : "tokens"));
    return { TABS, tab, setQuery, t };
  },
  template: `
  <div class="page-head"><h1>{{ t("我的令牌与 webhook", "My tokens and webhooks") }}</h1></div>
  <div class="chips" role="group" :aria-label="t('哪一样', 'Sections')"><button v-for="(words, name) in TABS" :key="name" class="chip" :aria-pressed="tab === name" @click="setQuery({ tab: name })">{{ t(...words) }}</button></div>
  <Tokens v-if="tab === 'tokens'" /><Webhooks v-else />`,
};
