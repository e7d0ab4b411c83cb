// 依赖的写法：等哪些作业、怎样了之后 -> afterok:12:13,afterany:14；? 是满足其一。
import { ref, watch } from "vue";
import { segment } from "./call.js";
import { facts, t } from "./facts.js";
import { jobLabel } from "./format.js";
import { live } from "./live.js";
import { stateWord } from "./state_tag.js";

const KINDS = { afterok: ["成功之后", "succeeded"], afterany: ["结束之后", "ended"], afternotok: ["失败之后", "failed"], after: ["开始之后", "started"], aftercorr: ["同号的任务成功之后", "same task succeeded"], singleton: ["同名的都结束之后", "same name ended"] };

export const DependencyBuilder = {
  props: { value: String },
  emits: ["change"],
  setup(props, { emit }) {
    const recent = live(`/jobs?user=${segment(facts.user_name)}&limit=30&sort=-job_id&arrays=folded&fields=job_id,array_job_id,array_task_id,array_remaining,name,state`, 15);
    const rows = ref([]), any = ref(false);
    let written = null;
    // 别处改了才照它填。
    watch(() => props.value, (value) => {
      if (value === written) return;
      any.value = value.includes("?");
      rows.value = (value ? value.split(/[,?]/) : []).flatMap((part) => {
        const [kind, ...ids] = part.split(":");
        return kind === "singleton" ? [{ kind, id: "" }] : (ids.length ? ids : [""]).map((id) => ({ kind, id }));
      });
    }, { immediate: true });
    function change(list, one = any.value) {
      rows.value = list, any.value = one;
      written = list.filter((row) => row.kind === "singleton" || row.id).map((row) => (row.kind === "singleton" ? "singleton" : `${row.kind}:${row.id}`)).join(one ? "?" : ",");
      emit("change", written);
    }
    function add(event) {
      if (event.target.value) change([...rows.value, { kind: "afterok", id: event.target.value }]);
      event.target.value = "";
    }
    const set = (index, changes) => change(rows.value.map((row, at) => (at === index ? { ...row, ...changes } : row)));
    const drop = (index) => change(rows.value.filter((_, at) => at !== index));
    return { KINDS, rows, any, recent, add, set, drop, change, jobLabel, stateWord, t };
  },
  template: `
  <fieldset class="builder"><legend>{{ t("依赖", "Dependency") }}</legend>
    <div v-for="(row, index) in rows" :key="index" class="builder-row"><select :value="row.kind" :aria-label="t('怎样了之后', 'When')" @change="set(index, { kind: $event.target.value })"><option v-for="(words, kind) in KINDS" :key="kind" :value="kind">{{ t(...words) }}</option></select>
      <input v-if="row.kind !== 'singleton'" :value="row.id" :aria-label="t('作业号', 'Job id')" @input="row.id = $event.target.value" @change="set(index, { id: $event.target.value.trim() })"><button type="button" class="text-button" @click="drop(index)">{{ t("去掉", "Remove") }}</button></div>
    <label class="field"><span>{{ t("等一个我的作业", "Wait for one of my jobs") }}</span><select value="" @change="add"><option value="">{{ t("选一个……", "Choose…") }}</option><option v-for="job in recent.data?.jobs ?? []" :key="job.job_id" :value="job.array_job_id ?? job.job_id">{{ job.array_job_id ?? job.job_id }} {{ job.name }} · {{ stateWord(job.state) }}</option></select></label>
    <label v-if="rows.length > 1" class="switch"><input type="checkbox" :checked="any" @change="change(rows, $event.target.checked)"><span>{{ t("满足其中一个就行", "Any one is enough") }}</span></label></fieldset>`,
};
