// 公平份额：账户树，各人应得多少、用了多少；用得比应得少的排前面。
import { computed } from "vue";
import { t } from "./facts.js";
import { duration } from "./format.js";
import { live } from "./live.js";

export const FairShareTree = {
  setup() {
    const shares = live("/shares", 30);
    // 每一层里：应得的是份额占兄弟的几成，用掉的是用量占兄弟的几成，一层层乘下来。
    const rows = computed(() => {
      const accounts = shares.data?.accounts ?? [], users = shares.data?.shares ?? [];
      if (!users.length) return [];
      const used = (account) => users.filter((user) => user.account === account).reduce((sum, user) => sum + user.usage, 0) + accounts.filter((each) => each.parent === account).reduce((sum, each) => sum + used(each.name), 0);
      const known = new Set(accounts.map((each) => each.name));
      const loose = [...new Set(users.map((user) => user.account))].filter((name) => !known.has(name)).map((name) => ({ name, parent: null, shares: 1 }));
      const total = users.reduce((sum, user) => sum + user.usage, 0) || 1;
      const below = (parent, depth, due) => {
        const own = [...accounts, ...loose].filter((each) => (each.parent ?? null) === parent).map((each) => ({ key: each.name, name: each.name, kind: "account", shares: each.shares, usage: used(each.name) }));
        const members = users.filter((user) => user.account === parent).map((user) => ({ key: parent + "/" + user.user_name, name: user.user_name, kind: "user", shares: user.shares, usage: user.usage, factor: user.factor }));
        const all = [...own, ...members], sum = all.reduce((whole, each) => whole + each.shares, 0) || 1;
        return all.sort((a, b) => b.shares - a.shares || a.name.localeCompare(b.name)).flatMap((each) => {
          const row = { ...each, depth, due: (due * each.shares) / sum, part: each.usage / total };
          return each.kind === "account" ? [row, ...below(each.name, depth + 1, row.due)] : [row];
        });
      };
      return below(null, 0, 1);
    });
    const percent = (value) => (value * 100).toFixed(value < 0.1 ? 1 : 0) + "%";
    return { rows, percent, duration, t };
  },
  template: `
  <section v-if="rows.length" class="card below"><h2>{{ t("公平份额", "Fair share") }}</h2><p class="hint">{{ t("竖线是应得的，条子是用掉的（近来的用量，旧的打折）；用得比应得少，下次排得靠前。", "Mark: what is due; bar: recent decayed use. Using less than is due moves jobs forward.") }}</p>
    <div class="scroll" tabindex="0" role="region" :aria-label="t('公平份额的树', 'Fair-share tree')"><table class="table wide"><thead><tr><th scope="col">{{ t("账户、用户", "Account, user") }}</th><th scope="col" class="number">{{ t("份额", "Shares") }}</th><th scope="col" class="share">{{ t("应得与用掉", "Due and used") }}</th><th scope="col" class="number">{{ t("应得", "Due") }}</th><th scope="col" class="number">{{ t("用掉", "Used") }}</th><th scope="col" class="number">{{ t("CPU 时间", "CPU time") }}</th><th scope="col" class="number">{{ t("因子", "Factor") }}</th></tr></thead>
      <tbody><tr v-for="row in rows" :key="row.key"><td :style="{ paddingLeft: 10 + row.depth * 20 + 'px' }"><b v-if="row.kind === 'account'">{{ row.name }}</b><bdi v-else>{{ row.name }}</bdi></td><td class="number">{{ row.shares }}</td><td class="share"><span class="due-bar"><i :style="{ width: Math.min(100, row.part * 100) + '%' }" :class="{ over: row.part > row.due * 1.05 }"></i><u :style="{ left: Math.min(99, row.due * 100) + '%' }"></u></span></td><td class="number">{{ percent(row.due) }}</td><td class="number">{{ percent(row.part) }}</td><td class="number">{{ duration(row.usage) }}</td><td class="number">{{ row.factor === undefined ? "" : row.factor.toFixed(3) }}</td></tr></tbody></table></div></section>`,
};
