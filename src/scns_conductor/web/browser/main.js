// 看板的框架：左栏、顶栏、横幅，当中是路径所指的那一页。
import { computed, defineAsyncComponent, markRaw, onMounted, onUnmounted, ref, watch, watchEffect } from "vue";
import { Dialogs } from "./dialogs.js";
import { clock, facts, learn, readsOnly, seesAll, t } from "./facts.js";
import { clockTime, duration } from "./format.js";
import { Icon } from "./icons.js";
import { connect, connection, live } from "./live.js";
import { go, listen, route } from "./route.js";
import { TopBar } from "./top_bar.js";

const page = (load) => markRaw(defineAsyncComponent(load));
// [路径, 页, 左栏的图标, 左栏的字]；没有图标的不在左栏里。
const PAGES = [
  [/^\/$/, page(() => import("./overview.js")), "overview", ["总览", "Overview"], "/"],
  [/^\/jobs$/, page(() => import("./jobs.js")), "jobs", ["作业", "Jobs"], "/jobs"],
  [/^\/jobs\/([\w[\],-]+)$/, page(() => import("./job.js")), null, ["作业", "Job"], "/jobs"],
  [/^\/submit$/, page(() => import("./submit.js")), "submit", ["提交", "Submit"], "/submit"],
  [/^\/nodes$/, page(() => import("./nodes.js")), "nodes", ["节点", "Nodes"], "/nodes"],
  [/^\/nodes\/([^/]+)$/, page(() => import("./node.js")), null, ["节点", "Node"], "/nodes"],
  [/^\/plan$/, page(() => import("./plan.js")), "plan", ["计划", "Plan"], "/plan"],
  [/^\/usage$/, page(() => import("./usage.js")), "usage", ["用量", "Usage"], "/usage"],
  [/^\/what-if$/, page(() => import("./what_if.js")), "whatif", ["假如", "What if"], "/what-if"],
  [/^\/me$/, page(() => import("./me.js")), null, ["我的令牌与 webhook", "My tokens and webhooks"], "/me"],
  [/^\/accounts$/, page(() => import("./own_accounts.js")), "accounts", ["账户", "Accounts"], "/accounts"],
  [/^\/admin$/, page(() => import("./admin.js")), "admin", ["管理", "Admin"], "/admin"],
];
const RAIL = PAGES.filter(([, , icon]) => icon);

export function start(given, emit, reconnected) {
  learn(given);
  listen();
  return connect(emit, reconnected);
}

export default {
  components: { Dialogs, Icon, TopBar },
  setup() {
    const found = computed(() => {
      for (const [pattern, component, , words, home] of PAGES) {
        const match = pattern.exec(route.path);
        if (match) return { component, words, home, subject: match[1] ?? null };
      }
      return null;
    });
    watchEffect(() => {
      const subject = found.value?.subject;
      document.title = `${subject ? subject + " · " : ""}${found.value ? t(...found.value.words) : "404"} · ${facts.cluster}`;
    });
    const rail = computed(() => RAIL.filter(([, , icon]) => icon === "admin" ? seesAll() : icon === "accounts" ? facts.coordinates?.length : icon !== "submit" || !readsOnly()));
    // 哪一页都看着：没有别的在问的页也很快知道 API 不在了、令牌作废了。
    const me = live("/whoami", 10);
    watch(() => me.data?.coordinates, (accounts) => accounts && (facts.coordinates = accounts));
    const expiring = computed(() => facts.expires_at * 1000 - clock.now < 900_000);
    const away = computed(() => connection.error?.status === 0 || connection.error?.status >= 500);
    const expired = computed(() => connection.error?.status === 401 || facts.expires_at * 1000 < clock.now);
    const small = ref(localStorage.getItem("scns_rail") === "small");
    const toggleRail = () => localStorage.setItem("scns_rail", (small.value = !small.value) ? "small" : "wide");
    const loginPath = () => "/login?next=" + encodeURIComponent(location.pathname + location.search);
    const help = ref(null);
    function keys(event) {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.isContentEditable;
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/") {
        event.preventDefault();
        document.getElementById("search")?.focus();
      } else if (event.key === "?") help.value?.showModal();
    }
    onMounted(() => document.addEventListener("keydown", keys));
    onUnmounted(() => document.removeEventListener("keydown", keys));
    const icon = new URL('./icon.svg', import.meta.url).pathname;
    return { icon, found, rail, small, toggleRail, expiring, away, expired, connection, facts, clock, loginPath, help, t, go, duration, clockTime };
  },
  template: `
  <div class="frame" :class="{ small }">
    <a class="skip" href="#content">{{ t("跳到内容", "Skip to content") }}</a>
    <nav class="rail" :aria-label="t('主导航', 'Main')">
      <a class="brand" href="/"><img :src="icon" alt="" width="26" height="26"><span>{{ facts.cluster }}</span></a>
      <a v-for="[, , icon, words, home] in rail" :key="home" :href="home" class="rail-link"
        :class="{ here: found?.home === home }" :aria-current="found?.home === home ? 'page' : null" :title="small ? t(...words) : null">
        <Icon :name="icon" /><span>{{ t(...words) }}</span></a>
      <button class="rail-toggle icon-button" :aria-label="small ? t('展开左栏', 'Expand') : t('收起左栏', 'Collapse')" @click="toggleRail">
        <Icon :name="small ? 'right' : 'left'" /></button>
    </nav>
    <div class="middle">
      <TopBar />
      <div v-if="expired" class="banner bad" role="alert">
        <Icon name="warn" /><span>{{ t("登录已过期。填好的都还在，重新登录之后回到这里。", "Your session has expired. What you filled in is kept.") }}</span>
        <a class="button" :href="loginPath()">{{ t("重新登录", "Sign in again") }}</a></div>
      <div v-else-if="away" class="banner bad" role="alert">
        <Icon name="warn" /><span>{{ t("连不上 API，数据停在 " + clockTime(connection.at) + "；正在重连，填好的都还在。",
          "The API cannot be reached; data is from " + clockTime(connection.at) + ". Reconnecting.") }}</span></div>
      <div v-else-if="expiring" class="banner" role="status">
        <Icon name="PENDING" /><span>{{ t("登录还有 " + duration(facts.expires_at - clock.now / 1000) + " 到期。", "Your session ends in " + duration(facts.expires_at - clock.now / 1000) + ".") }}</span>
        <a class="button" :href="loginPath()">{{ t("现在续", "Renew") }}</a></div>
      <main id="content" class="content" tabindex="-1">
        <Suspense v-if="found"><component :is="found.component" :key="found.home + (found.subject ?? '')" :subject="found.subject" />
          <template #fallback><div class="bars" :aria-label="t('正在打开', 'Opening')"><i></i><i></i><i></i></div></template></Suspense>
        <div v-else class="empty"><h1>404</h1><p>{{ t("没有这一页。", "There is no such page.") }}</p><a class="button" href="/">{{ t("回总览", "Overview") }}</a></div>
      </main>
    </div>
    <Dialogs />
    <dialog ref="help" class="dialog" aria-labelledby="help-title">
      <h2 id="help-title">{{ t("快捷键", "Keyboard") }}</h2>
      <dl class="keys">
        <dt><kbd>/</kbd></dt><dd>{{ t("搜索作业、用户、节点", "Search jobs, users, nodes") }}</dd>
        <dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>{{ t("列表里下一行、上一行", "Next, previous row") }}</dd>
        <dt><kbd>Enter</kbd></dt><dd>{{ t("打开这一行", "Open the row") }}</dd>
        <dt><kbd>x</kbd></dt><dd>{{ t("选中这一行", "Select the row") }}</dd>
        <dt><kbd>c</kbd></dt><dd>{{ t("取消作业（先问）", "Cancel the job (asks first)") }}</dd>
        <dt><kbd>?</kbd></dt><dd>{{ t("这张表", "This table") }}</dd>
      </dl>
      <form method="dialog" class="dialog-buttons"><button class="button primary">{{ t("知道了", "Close") }}</button></form>
    </dialog>
  </div>`,
};
