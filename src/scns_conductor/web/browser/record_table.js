// 一张管理的表：列出、新建、修改、删除；能不能改由 API 定，不能的这里也不画按钮。
import { ref } from "vue";
import { call } from "./call.js";
import { ask, tell } from "./dialogs.js";
import { t } from "./facts.js";
import { changed } from "./live.js";
import { RecordForm } from "./record_form.js";

// blank 是新建时先填好的；建成了以 created 报告 API 的回答。columns 是 [字, (记录) => 字, 是不是数]；pathOf 给出一条记录的路径；nameOf 是给人看的名字。
export const RecordTable = {
  props: { title: String, noun: Array, rows: Array, columns: Array, fields: Array, create: String, blank: Object, pathOf: Function, nameOf: Function, mayEdit: Boolean, mayChange: { type: Function, default: () => true }, mayDelete: { type: Function, default: () => true }, warning: { type: Function, default: () => "" } },
  components: { RecordForm },
  emits: ["created"],
  setup(props) {
    const open = ref(null);
    async function drop(row) {
      const name = props.nameOf(row);
      if (!await ask({ title: t(`删除${props.noun[0]} ${name}`, `Delete ${props.noun[1]} ${name}`), text: props.warning(row), action: t("删除", "Delete"), danger: true })) return;
      try {
        await call("DELETE", props.pathOf(row));
        changed();
        tell(t(`已删除${props.noun[0]} ${name}`, `Deleted ${props.noun[1]} ${name}`));
      } catch (problem) {
        tell(problem.detail, { kind: "error" });
      }
    }
    return { open, drop, t };
  },
  template: `
  <section class="card"><div class="card-head"><h2>{{ title }}</h2><span class="grow"></span><button v-if="mayEdit && create" class="button" @click="open = {}">{{ t("新建" + noun[0], "New " + noun[1]) }}</button></div>
    <div class="scroll" tabindex="0" role="region" :aria-label="title"><table class="table"><thead><tr><th v-for="[words, , number] in columns" :key="words[0]" scope="col" :class="{ number }">{{ t(...words) }}</th><th v-if="mayEdit" scope="col"><span class="unseen">{{ t("改", "Change") }}</span></th></tr></thead>
      <tbody v-if="rows"><tr v-for="row in rows" :key="nameOf(row)"><td v-for="([words, write, number], index) in columns" :key="words[0]" :class="{ number, 'job-cell': index === 0 }" :data-label="index ? t(...words) : null"><b v-if="index === 0"><bdi>{{ write(row) }}</bdi></b><bdi v-else>{{ write(row) }}</bdi></td>
        <td v-if="mayEdit" class="row-buttons"><slot name="actions" :row="row" /><button v-if="mayChange(row)" class="text-button" :aria-label="t('修改 ', 'Edit ') + nameOf(row)" @click="open = { row }">{{ t("修改", "Edit") }}</button><button v-if="mayDelete(row)" class="text-button danger-text" :aria-label="t('删除 ', 'Delete ') + nameOf(row)" @click="drop(row)">{{ t("删除", "Delete") }}</button></td></tr>
        <tr v-if="!rows.length"><td :colspan="columns.length + 1" class="nothing">{{ t("还没有。", "None yet.") }}</td></tr></tbody>
      <tbody v-else><tr><td :colspan="columns.length + 1"><div class="bars"><i></i></div></td></tr></tbody></table></div>
    <RecordForm v-if="open" :title="open.row ? t('修改' + noun[0] + ' ', 'Edit ' + noun[1] + ' ') + nameOf(open.row) : t('新建' + noun[0], 'New ' + noun[1])" :fields="fields" :given="open.row ?? blank ?? {}" :create="create" :update="open.row ? pathOf(open.row) : undefined" @done="$event && !open.row && $emit('created', $event), (open = null)" /></section>`,
};
