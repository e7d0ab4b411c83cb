// 顶栏：搜索、语言、明暗、我是谁。
import { computed, onMounted, onUnmounted, ref } from "vue";
import { call, segment } from "./call.js";
import { clock, english, facts, t } from "./facts.js";
import { duration, exact } from "./format.js";
import { Icon } from "./icons.js";
import { go } from "./route.js";

const themeNow = () => document.documentElement.dataset.theme;

export const TopBar = {
  components: { Icon },
  setup() {
    const text = ref(""), dark = ref(themeNow() === "dark"), menu = ref(false), box = ref(null);
    async function search() {
      const wanted = text.value.trim();
      if (!wanted) return;
      text.value = "";
      document.getElementById("search").blur();
      if (/^\d+(_\d+)?$/.test(wanted)) return go("/jobs/" + wanted);
      if (wanted.startsWith("@")) return go("/jobs?user=" + segment(wanted.slice(1)));
      try {
        await call("GET", "/nodes/" + segment(wanted));
        go("/nodes/" + segment(wanted));
      } catch {
        const found = await call("GET", `/jobs?limit=1&fields=job_id&user=${segment(wanted)}`).catch(() => ({ jobs: [] }));
        go(`/jobs?${found.jobs.length ? "user" : "name"}=${segment(wanted)}`);
      }
    }
    function theme() {
      dark.value = !dark.value;
      const chosen = dark.value ? "dark" : "light";
      document.documentElement.dataset.theme = chosen;
      document.cookie = `scns_theme=${chosen}; path=/; max-age=31536000; samesite=strict`;
      window.dispatchEvent(new Event("scns-theme"));
    }
    const languageLink = () => `/language/${english() ? "zh" : "en"}?next=${encodeURIComponent(location.pathname + location.search)}`;
    const outside = (event) => box.value?.contains(event.target) || (menu.value = false);
    const escape = (event) => event.key === "Escape" && (menu.value = false);
    onMounted(() => (document.addEventListener("click", outside), document.addEventListener("keydown", escape)));
    onUnmounted(() => (document.removeEventListener("click", outside), document.removeEventListener("keydown", escape)));
    const left = computed(() => duration(facts.expires_at - clock.now / 1000));
    const role = computed(() => facts.admin ? t("管理员", "administrator") : facts.operator ? "operator" : facts.auditor ? t("审计员", "auditor") : facts.coordinates?.length ? t("协调人", "coordinator") : t("用户", "user"));
    return { text, search, dark, theme, languageLink, menu, box, facts, left, role, exact, english, t };
  },
  template: `
  <header class="top">
    <form role="search" class="search" @submit.prevent="search">
      <Icon name="search" />
      <input id="search" v-model="text" type="search" :placeholder="t('作业号、名字、@用户、节点', 'Job, name, @user, node')"
        :aria-label="t('搜索', 'Search')" autocomplete="off" @keydown.escape="$event.target.blur()">
      <kbd>/</kbd>
    </form>
    <span class="grow"></span>
    <a class="text-button" :href="languageLink()" :lang="english() ? 'zh-CN' : 'en'">{{ english() ? "中文" : "English" }}</a>
    <button class="icon-button" :aria-label="dark ? t('用浅色', 'Light theme') : t('用深色', 'Dark theme')" @click="theme">
      <Icon :name="dark ? 'sun' : 'moon'" /></button>
    <div class="menu-box" ref="box">
      <button class="who" :aria-expanded="menu" aria-haspopup="true" @click="menu = !menu"><Icon name="user" /><span>{{ facts.user_name }}</span><Icon name="down" :size="14" /></button>
      <div v-if="menu" class="menu">
        <p><b>{{ facts.user_name }}</b> · {{ role }}</p>
        <p class="hint" :title="exact(facts.expires_at * 1000)">{{ t("登录还有 " + left + " 到期", "Session ends in " + left) }}</p>
        <a class="menu-item" :href="'/jobs?user=' + encodeURIComponent(facts.user_name)">{{ t("我的作业", "My jobs") }}</a>
        <a class="menu-item" href="/me">{{ t("我的令牌与 webhook", "My tokens and webhooks") }}</a>
        <form method="post" action="/logout"><button class="menu-item">{{ t("退出登录", "Sign out") }}</button></form>
      </div>
    </div>
  </header>`,
};
