// 数组的写法：从几到几、隔几个、同时至多几个 -> 0-9:2%4；写法更杂的直接改那一项。
import { computed, reactive, watch } from "vue";
import { t } from "./facts.js";

export const ArrayBuilder = {
  props: { value: String },
  emits: ["change"],
  setup(props, { emit }) {
    const parts = computed(() => /^(\d+)(?:-(\d+))?(?::(\d+))?(?:%(\d+))?$/.exec(props.value.trim()));
    const fields = reactive({ first: "", last: "", step: "", most: "" });
    let written = null;
    // 别处（脚本、上面那一项）改了才照它填：自己刚写的还没有读回来时不动。
    watch(() => props.value, (value) => {
      if (value === written) return;
      const [, first = "", last = first, step = "", most = ""] = parts.value ?? [];
      Object.assign(fields, { first, last, step, most });
    }, { immediate: true });
    const tasks = computed(() => (fields.first === "" || fields.last === "" ? null : Math.floor((Number(fields.last) - Number(fields.first)) / Number(fields.step || 1)) + 1));
    function set(name, text) {
      fields[name] = text;
      const first = fields.first || "0", last = fields.last || first;
      written = !fields.first && !fields.last ? "" : (last === first ? first : `${first}-${last}`) + (Number(fields.step) > 1 ? ":" + fields.step : "") + (fields.most ? "%" + fields.most : "");
      emit("change", written);
    }
    const inputs = [["first", ["从", "From"], "0"], ["last", ["到", "To"], "9"], ["step", ["隔几个", "Step"], "1"], ["most", ["同时至多", "At once"], ""]];
    return { parts, fields, tasks, inputs, set, t };
  },
  template: `
  <fieldset class="builder"><legend>{{ t("数组", "Array") }}</legend><div class="builder-row"><label v-for="[name, words, example] in inputs" :key="name" class="field"><span>{{ t(...words) }}</span><input type="number" min="0" :value="fields[name]" :placeholder="example" @input="fields[name] = $event.target.value" @change="set(name, $event.target.value)"></label></div>
    <small>{{ value && !parts ? t("写法较杂，请直接改上面的“数组”", "A more complex form: edit Array above") : tasks ? t(tasks + " 个任务；脚本里用 $SLURM_ARRAY_TASK_ID", tasks + " tasks; use $SLURM_ARRAY_TASK_ID in the script") : t("同一份脚本跑许多遍，号不同", "Run the same script many times with different numbers") }}</small></fieldset>`,
};
