// 上限，与此刻离它多近：自己的账户（管理员是全部账户）的合计，与自己每个账户里的。
import { computed } from "vue";
import { segment } from "./call.js";
import { facts, seesAll, t } from "./facts.js";
import { count, memory } from "./format.js";
import { live } from "./live.js";

const MOST = 5000;

export const LimitsCard = {
  setup() {
    const me = segment(facts.user_name), accounts = live("/accounts", 30), rows = live("/associations", 30);
    const jobs = live(`/jobs?state=PENDING,RUNNING,SUSPENDED&limit=${MOST}&fields=account,user_name,state,allocated_cpus,allocated_memory,allocated_gres`, 15);
    const subtree = (name) => [name, ...(accounts.data?.accounts ?? []).filter((each) => each.parent === name).flatMap((each) => subtree(each.name))];
    const used = (list, kind) => list.reduce((sum, job) => sum + (kind === "cpu" ? job.allocated_cpus ?? 0 : kind === "mem" ? job.allocated_memory ?? 0 : kind.startsWith("gres/") ? gres(job, kind.slice(5)) : 0), 0);
    const gres = (job, name) => (job.allocated_gres ?? "").split(",").reduce((sum, word) => { const [kind, ...rest] = word.replace(/^gres\//, "").split(/[:=]/); return kind === name || `${kind}:${rest[0]}` === name ? sum + Number(rest.at(-1) || 1) : sum; }, 0);
    const lines = computed(() => {
      const all = rows.data?.associations, every = jobs.data?.jobs;
      if (!all || !every) return [];
      const mine = all.filter((each) => each.user_name === facts.user_name), found = [];
      const ancestors = (name) => { const one = (accounts.data?.accounts ?? []).find((each) => each.name === name); return one ? [name, ...(one.parent ? ancestors(one.parent) : [])] : []; };
      const shown = new Set(seesAll() ? all.map((each) => each.account) : [...mine.flatMap((each) => ancestors(each.account)), ...facts.coordinates ?? []]);
      const add = (where, what, now, limit, write = count) => limit !== null && limit !== undefined && found.push({ where, what, now: write(now), limit: write(limit), part: limit ? now / limit : 1 });
      for (const row of all.filter((each) => !each.user_name && shown.has(each.account))) {
        const below = new Set(subtree(row.account)), its = every.filter((job) => below.has(job.account)), live = its.filter((job) => job.state !== "PENDING");
        for (const [kind, limit] of Object.entries(row.grp_tres ?? {})) if (kind === "cpu" || kind === "mem" || kind.startsWith("gres/")) add(row.account, { cpu: "CPU", mem: t("内存", "Memory") }[kind] ?? kind.slice(5).toUpperCase(), used(live, kind), limit, kind === "mem" ? memory : count);
        add(row.account, t("运行的作业", "running jobs"), live.length, row.grp_jobs);
        add(row.account, t("排队与运行的作业", "submitted jobs"), its.length, row.grp_submit_jobs);
      }
      for (const row of mine) {
        const own = every.filter((job) => job.user_name === facts.user_name && job.account === row.account), limits = { ...row.effective, ...Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)) };
        const where = t(`我在 ${row.account}`, `me in ${row.account}`);
        add(where, t("运行的作业", "running jobs"), own.filter((job) => job.state !== "PENDING").length, limits.max_jobs);
        add(where, t("排队与运行的作业", "submitted jobs"), own.length, limits.max_submit_jobs);
      }
      return found.sort((a, b) => b.part - a.part);
    });
    const partial = computed(() => (jobs.data?.jobs.length ?? 0) >= MOST);
    return { lines, partial, me, t };
  },
  template: `
  <section v-if="lines.length" class="card below"><h2>{{ t("上限", "Limits") }}</h2><ul class="my-jobs limits"><li v-for="line in lines" :key="line.where + line.what"><b>{{ line.where }}</b><span>{{ line.what }}</span><span class="my-progress"><span class="meter long" :class="{ near: line.part > 0.9 }"><i :style="{ width: Math.min(1, line.part) * 100 + '%' }"></i></span><span class="amount">{{ line.now }} / {{ line.limit }}</span></span></li></ul>
    <p v-if="partial" class="hint">{{ t("作业太多，只数了一部分。", "Too many jobs; counted only in part.") }}</p></section>`,
};
