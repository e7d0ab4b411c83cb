// 脚本的编辑框：透明的 textarea 盖在着色的文字上；Tab 缩进，Esc 之后的 Tab 离开。
import { computed, ref } from "vue";
import { t } from "./facts.js";
import { highlight } from "./highlight.js";

export const ScriptEditor = {
  props: { modelValue: String },
  emits: ["update:modelValue"],
  setup(props, { emit }) {
    const box = ref(null), leaving = ref(false), inside = ref(false);
    const lines = computed(() => highlight(props.modelValue));
    function keydown(event) {
      if (event.key === "Escape") leaving.value = true;
      else if (event.key === "Tab" && !event.shiftKey && !leaving.value) {
        event.preventDefault();
        document.execCommand("insertText", false, "  ");
      } else if (event.key !== "Tab") leaving.value = false;
    }
    return { box, lines, keydown, leaving, inside, t, input: (event) => emit("update:modelValue", event.target.value) };
  },
  template: `
  <div class="editor"><pre class="editor-paint" aria-hidden="true"><span v-for="(line, index) in lines" :key="index"><span v-for="(part, at) in line" :key="at" :class="part.kind && 'c-' + part.kind">{{ part.text }}</span>
</span></pre><textarea ref="box" class="editor-text" :value="modelValue" spellcheck="false" autocapitalize="off" autocomplete="off" wrap="off"
    :rows="Math.max(14, lines.length + 1)" :aria-label="t('脚本', 'Script')" @input="input" @keydown="keydown" @focus="inside = true" @blur="leaving = inside = false" aria-describedby="editor-keys"></textarea></div>
  <small id="editor-keys" class="hint" :class="{ unseen: !inside }">{{ leaving ? t("再按 Tab 就离开", "Tab leaves now") : t("Tab 缩进；先按 Esc 再按 Tab 离开", "Tab indents; Esc, then Tab leaves") }}</small>`,
};
