// 新建、修改一条记录：一个对话框；只送改了的，API 的拒绝标在那一项上，填好的都还在。
import { computed, nextTick, onMounted, reactive, ref } from "vue";
import { call } from "./call.js";
import { tell } from "./dialogs.js";
import { t } from "./facts.js";
import { changed } from "./live.js";
import { textOf, valueOf } from "./record_values.js";

// fields 是 [字段, 字, 种类, 例子或选项, "new" 是只在新建时填]；given 是先填好的，original 是现在的记录（缺省就是 given）；update 有值是修改。
// send 写了的由它送（收到改了的各项），不照 create、update；拒绝要抛 Problem。做成了 done 带着 API 的回答。
export const RecordForm = {
  props: { title: String, fields: Array, given: Object, original: Object, create: String, update: String, send: Function },
  emits: ["done"],
  setup(props, { emit }) {
    const box = ref(null), busy = ref(false), errors = ref({}), problem = ref("");
    const now = props.update ? (props.original ?? props.given) : props.original ?? {};
    const original = Object.fromEntries(props.fields.map(([name, , kind]) => [name, textOf(kind, now[name])]));
    const texts = reactive(Object.fromEntries(props.fields.map(([name, , kind]) => [name, textOf(kind, props.given?.[name])])));
    const shown = computed(() => props.fields.filter(([, , , , only]) => only !== "new" || !props.update));
    async function save() {
      busy.value = true;
      errors.value = {}, problem.value = "";
      const changes = Object.fromEntries(shown.value.filter(([name]) => String(texts[name]) !== original[name]).map(([name, , kind]) => [name, valueOf(kind, String(texts[name]), now[name])]));
      try {
        const answer = await (props.send ? props.send(changes) : call(props.update ? "PATCH" : "POST", props.update ?? props.create, changes));
        changed();
        tell(t("已保存", "Saved"));
        emit("done", answer);
      } catch (refused) {
        errors.value = Object.fromEntries(refused.errors.map((each) => [each.field.replace(/^body\./, "").split(".")[0], each.message]));
        const known = shown.value.map(([name]) => name);
        problem.value = refused.errors.length && refused.errors.every((each) => known.includes(each.field.replace(/^body\./, "").split(".")[0])) ? "" : refused.detail;
      } finally {
        busy.value = false;
      }
    }
    onMounted(() => nextTick(() => {
      box.value.showModal();
      box.value.querySelector("input, select")?.focus();
    }));
    return { box, busy, errors, problem, texts, shown, save, t };
  },
  template: `
  <dialog ref="box" class="dialog wide-dialog" :aria-label="title" @cancel.prevent="$emit('done')">
    <form @submit.prevent="save"><h2>{{ title }}</h2>
      <p v-if="problem" class="notice bad" role="alert">{{ problem }}</p>
      <div class="form-grid"><label v-for="[name, words, kind, example] in shown" :key="name" class="field" :class="{ wrong: errors[name] }"><span>{{ t(...words) }}</span>
        <select v-if="kind === 'flag'" v-model="texts[name]" :name="name"><option value="">{{ t("否", "No") }}</option><option value="true">{{ t("是", "Yes") }}</option></select>
        <select v-else-if="Array.isArray(example)" v-model="texts[name]" :name="name"><option v-for="one in example" :key="one" :value="one">{{ one || "—" }}</option></select>
        <input v-else v-model.trim="texts[name]" :name="name" :type="kind === 'number' ? 'number' : kind === 'moment' ? 'datetime-local' : 'text'" :step="kind === 'number' ? 'any' : null" :placeholder="example" autocomplete="off" :aria-invalid="!!errors[name]">
        <small v-if="errors[name]" class="field-error" role="alert">{{ errors[name] }}</small></label></div>
      <slot /><div class="dialog-buttons"><button type="button" class="button" @click="$emit('done')">{{ t("不", "Cancel") }}</button><button class="button primary" :disabled="busy">{{ t("保存", "Save") }}</button></div></form></dialog>`,
};
