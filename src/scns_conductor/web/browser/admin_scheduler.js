// 管理：调度的统计、健康、各端点的请求；统计可以从头计。
import { computed } from "vue";
import { call } from "./call.js";
import { ClusterWhy } from "./cluster_why.js";
import { ask, tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { count } from "./format.js";
import { changed, live } from "./live.js";

export const AdminScheduler = {
  components: { ClusterWhy },
  setup() {
    const diag = live("/diag", 3), ready = live("/health/ready", 5);
    const statistics = computed(() => Object.entries(diag.data?.statistics ?? {}).filter(([, value]) => typeof value === "number" || typeof value === "string"));
    const rpcs = computed(() => [...(diag.data?.statistics.rpcs_by_message_type ?? [])].sort((a, b) => b.count - a.count).slice(0, 40));
    const checks = computed(() => Object.entries(ready.data?.checks ?? {}).filter(([, value]) => value?.status));
    async function reset() {
      if (!await ask({ title: t("统计从头计", "Reset statistics"), text: t("周期、回填、作业的计数归零；不影响作业。", "Cycle, backfill and job counters return to zero; jobs are not affected."), action: t("从头计", "Reset") })) return;
      await call("POST", "/diag/reset").then(() => (changed(), tell(t("已从头计", "Statistics reset"))), (problem) => tell(problem.detail, { kind: "error" }));
    }
    return { statistics, rpcs, checks, reset, facts, count, t };
  },
  template: `
  <div class="grid columns-2"><section class="card"><div class="card-head"><h2>{{ t("统计", "Statistics") }}</h2><span class="grow"></span><button v-if="facts.admin" class="text-button" @click="reset">{{ t("从头计", "Reset") }}</button></div><dl class="facts"><template v-for="[name, value] in statistics" :key="name"><dt>{{ name }}</dt><dd>{{ typeof value === "number" ? count(value) : value }}</dd></template></dl></section>
    <div class="stack"><section class="card"><h2>{{ t("健康", "Health") }}</h2><dl class="facts"><template v-for="[name, value] in checks" :key="name"><dt>{{ name }}</dt><dd>{{ value.status }}<small v-if="value.remedy"> · {{ value.remedy }}</small></dd></template></dl></section>
      <section class="card"><h2>{{ t("请求", "Requests") }}</h2><dl class="facts"><template v-for="one in rpcs" :key="one.message_type"><dt>{{ one.message_type }}</dt><dd>{{ count(one.count) }} · {{ (one.average_time / 1000).toFixed(1) }} ms</dd></template></dl></section></div></div>
  <ClusterWhy v-if="facts.admin || facts.operator" />`,
};
