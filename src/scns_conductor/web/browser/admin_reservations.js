// 管理：预留，日历与表；新建、修改（也可以在日历上拖）、删除。
import { computed, ref } from "vue";
import { segment } from "./call.js";
import { facts, t } from "./facts.js";
import { clockTime, duration } from "./format.js";
import { live } from "./live.js";
import { rowsOf } from "./node_rows.js";
import { RecordForm } from "./record_form.js";
import { RecordTable } from "./record_table.js";
import { ReservationCalendar } from "./reservation_calendar.js";

const MOST_NODES = 60;
const FIELDS = [
  ["name", ["名字", "Name"], "text", "maintenance", "new"], ["start_time", ["开始", "Start"], "moment", ""], ["end_time", ["结束", "End"], "moment", ""],
  ["nodes", ["节点（ALL 是全部）", "Nodes (ALL for all)"], "text", "node[1-2]"], ["node_count", ["或：要几个节点", "Or: how many nodes"], "number", "", "new"], ["partition", ["取自分区", "From partition"], "text", ""],
  ["users", ["给这些用户", "For users"], "words", "ada,bob"], ["accounts", ["给这些账户", "For accounts"], "words", "vision"], ["licenses", ["许可证", "Licences"], "text", "matlab:2"], ["flags", ["标志", "Flags"], "words", "MAINT,IGNORE_JOBS,DAILY"], ["comment", ["备注", "Comment"], "text", ""],
];

export const AdminReservations = {
  components: { RecordForm, RecordTable, ReservationCalendar },
  setup() {
    const found = live("/reservations", 5), map = live("/nodemap", 30), form = ref(null);
    const nodes = computed(() => rowsOf(map.data).map((node) => node.name).slice(0, MOST_NODES)), total = computed(() => map.data?.nodes.length ?? 0);
    const pathOf = (one) => "/reservations/" + segment(one.name), nameOf = (one) => one.name;
    const columns = [
      [["名字", "Name"], nameOf], [["状态", "State"], (one) => ({ ACTIVE: t("生效", "active"), INACTIVE: t("还没开始", "not yet"), ENDED: t("结束了", "ended") })[one.state] ?? one.state], [["开始", "Start"], (one) => clockTime(one.start_time)], [["多久", "Duration"], (one) => duration((new Date(one.end_time) - new Date(one.start_time)) / 1000)],
      [["节点", "Nodes"], (one) => one.node_list || one.nodes], [["给谁", "For"], (one) => [...one.users, ...one.accounts].join(", ") || t("维护，谁也不给", "maintenance, nobody")], [["标志", "Flags"], (one) => one.flags.join(", ") || "—"],
    ];
    // 拖出来的：打开填好了时间与节点的表单，确认了才真的建。
    const draw = (block) => (form.value = { given: { name: "", users: [], accounts: [], flags: [], ...block } });
    // 移动的送新的时间，别的照旧；表单里两个时刻都看得到，不对还能改。
    const move = (one, moments) => (form.value = { given: { ...one, ...moments }, was: one });
    const open = (one) => (form.value = { given: one, was: one });
    return { found, nodes, total, form, FIELDS, columns, pathOf, nameOf, draw, move, open, facts, t };
  },
  template: `
  <section class="card"><h2>{{ t("日历", "Calendar") }}</h2><ReservationCalendar :reservations="found.data?.reservations ?? []" :nodes="nodes" :may-edit="facts.admin || facts.operator" @draw="draw" @move="move" @open="open" /><p v-if="total > nodes.length" class="hint">{{ t("只画前 " + nodes.length + " 个节点，共 " + total + " 个；别的用下面的表", "First " + nodes.length + " of " + total + " nodes; use the table below for others") }}</p></section>
  <RecordTable class="below" :title="t('预留', 'Reservations')" :noun="['预留', 'reservation']" :rows="found.data?.reservations" :columns="columns" :fields="FIELDS" create="/reservations" :path-of="pathOf" :name-of="nameOf" :may-edit="facts.admin || facts.operator" />
  <RecordForm v-if="form" :title="form.was ? t('修改预留 ', 'Edit reservation ') + form.was.name : t('新建预留', 'New reservation')" :fields="FIELDS" :given="form.given" :original="form.was" create="/reservations" :update="form.was ? pathOf(form.was) : undefined" @done="form = null" />`,
};
