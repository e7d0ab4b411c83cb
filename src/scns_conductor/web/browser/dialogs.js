// 确认、提示：确认要说清楚会动几个；做完了说做了什么，能撤的给十秒。
import { nextTick, reactive, ref } from "vue";
import { t } from "./facts.js";
import { Icon } from "./icons.js";

const asked = reactive({ open: false, title: "", text: "", action: "", danger: false, input: null, value: "", settle: null });
const toasts = reactive([]);
let nextToast = 1;

// 问一句；input 是要填的一项的名字。取消是 null，确认是 true 或填的字。
export function ask({ title, text = "", action, danger = false, input = null, value = "" }) {
  return new Promise((settle) => Object.assign(asked, { open: true, title, text, action, danger, input, value, settle }));
}

export function tell(text, { kind = "ok", undo = null } = {}) {
  const toast = { id: nextToast++, text, kind, undo };
  toasts.push(toast);
  const drop = () => toasts.splice(toasts.findIndex((each) => each.id === toast.id) >>> 0, 1);
  toast.drop = drop;
  setTimeout(drop, undo ? 10000 : kind === "error" ? 8000 : 4000);
}

export const Dialogs = {
  components: { Icon },
  setup() {
    const box = ref(null), field = ref(null);
    const settle = (value) => {
      asked.open = false;
      box.value?.close();
      asked.settle?.(value);
    };
    return { asked, toasts, box, field, t, settle, confirm: () => settle(asked.input ? asked.value.trim() : true) };
  },
  watch: {
    "asked.open"(open) {
      if (open) nextTick(() => {
        this.box.showModal();
        this.field?.focus();
      });
    },
  },
  template: `
  <dialog ref="box" class="dialog" aria-labelledby="dialog-title" @cancel.prevent="settle(null)" @click.self="settle(null)">
    <form v-if="asked.open" method="dialog" @submit.prevent="confirm">
      <h2 id="dialog-title">{{ asked.title }}</h2>
      <p v-if="asked.text" class="dialog-text">{{ asked.text }}</p>
      <label v-if="asked.input" class="field"><span>{{ asked.input }}</span>
        <input ref="field" v-model="asked.value" required maxlength="1000"></label>
      <div class="dialog-buttons">
        <button type="button" class="button" @click="settle(null)">{{ t("不", "Cancel") }}</button>
        <button type="submit" class="button" :class="asked.danger ? 'danger' : 'primary'">{{ asked.action }}</button>
      </div>
    </form>
  </dialog>
  <div class="toasts" role="status" aria-live="polite">
    <div v-for="toast in toasts" :key="toast.id" class="toast" :class="toast.kind">
      <span>{{ toast.text }}</span>
      <button v-if="toast.undo" class="link-button" @click="toast.undo(); toast.drop()">{{ t("撤销", "Undo") }}</button>
      <button class="icon-button" :aria-label="t('关掉', 'Dismiss')" @click="toast.drop()"><Icon name="close" :size="14" /></button>
    </div>
  </div>`,
};
