// 只看的脚本：着色、行号。
import { computed } from "vue";
import { tell } from "./dialogs.js";
import { t } from "./facts.js";
import { highlight } from "./highlight.js";
import { Icon } from "./icons.js";

const MOST_LINES = 2000;

export const ScriptView = {
  props: { script: String, name: String },
  components: { Icon },
  setup(props) {
    // 末尾的换行不算一行。
    const lines = computed(() => highlight(props.script.replace(/\n$/, "")).slice(0, MOST_LINES));
    const more = computed(() => Math.max(0, props.script.replace(/\n$/, "").split("\n").length - MOST_LINES));
    const copy = () => navigator.clipboard.writeText(props.script).then(() => tell(t("已复制脚本", "Script copied")));
    return { lines, more, copy, t };
  },
  template: `
  <div class="card"><div class="card-head"><h2>{{ t("脚本", "Script") }}</h2><span class="grow"></span>
    <button class="text-button" @click="copy"><Icon name="copy" :size="15" /> {{ t("复制", "Copy") }}</button></div>
    <pre class="code" tabindex="0" :aria-label="t('脚本', 'Script')"><span v-for="(line, index) in lines" :key="index" class="line"><span v-for="(part, at) in line" :key="at" :class="part.kind && 'c-' + part.kind">{{ part.text }}</span>
</span></pre>
    <p v-if="more" class="hint">{{ t("还有 " + more + " 行没有列出", more + " more lines") }}</p></div>`,
};
