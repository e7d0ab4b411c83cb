// 输出：边写边看，ANSI 颜色，在里面找，下载。
import { computed, nextTick, onBeforeUnmount, ref, shallowRef, triggerRef, watch } from "vue";
import { AnsiLines } from "./ansi.js";
import { t } from "./facts.js";
import { bytes } from "./format.js";
import { Icon } from "./icons.js";
import { follow } from "./live.js";

export const LiveOutput = {
  props: { jobId: String, jobName: String, separate: Boolean, live: Boolean },
  components: { Icon },
  setup(props) {
    const stream = ref("stdout"), log = shallowRef(new AnsiLines()), box = ref(null), pinned = ref(true), wanted = ref(""), error = ref(""), total = ref(0), before = ref(0), started = ref(false), ended = ref(false), at = ref(0);
    let stop = () => {};
    function toEnd() {
      if (box.value) box.value.scrollTop = box.value.scrollHeight;
    }
    function open() {
      stop();
      log.value = new AnsiLines();
      error.value = "", total.value = before.value = 0, started.value = ended.value = false;
      stop = follow(props.jobId, stream.value, (message) => {
        started.value = true;
        if (message.error !== undefined) error.value = message.error;
        if (message.total !== undefined) total.value = message.total, before.value = message.before;
        if (message.end) ended.value = true;
        if (message.text === undefined) return;
        if (message.skipped) log.value.add(t(`\n… 写得太快，跳过了 ${message.skipped} 个字 …\n`, `\n… skipped ${message.skipped} characters …\n`));
        log.value.add(message.text);
        triggerRef(log);
        if (pinned.value) nextTick(toEnd);
      });
    }
    watch([() => props.jobId, stream], open, { immediate: true });
    onBeforeUnmount(() => stop());
    const scrolled = () => (pinned.value = box.value.scrollHeight - box.value.scrollTop - box.value.clientHeight < 24);
    const lines = computed(() => (log.value.open.length ? [...log.value.lines, { id: 0, parts: log.value.open }] : log.value.lines));
    const textOf = (line) => line.parts.map((part) => part.text).join("");
    const hits = computed(() => (wanted.value ? lines.value.filter((line) => textOf(line).toLowerCase().includes(wanted.value.toLowerCase())).map((line) => line.id) : []));
    function nextHit(step) {
      if (!hits.value.length) return;
      at.value = (at.value + step + hits.value.length) % hits.value.length;
      pinned.value = false;
      box.value.querySelector(`[data-line="${hits.value[at.value]}"]`)?.scrollIntoView({ block: "center" });
    }
    watch(wanted, () => ((at.value = -1), nextTick(() => nextHit(1))));
    const download = computed(() => `/api/jobs/${props.jobId}/logs/${stream.value}?download=${encodeURIComponent(`${props.jobName}-${props.jobId}.${stream.value}.txt`)}`);
    return { stream, log, lines, box, pinned, scrolled, toEnd, wanted, hits, at, nextHit, error, total, before, started, ended, download, bytes, t, pin: () => ((pinned.value = true), toEnd()) };
  },
  template: `
  <section class="card output" :aria-label="t('输出', 'Output')"><div class="card-head"><h2>{{ t("输出", "Output") }}</h2>
    <span v-if="live && started && !ended && !error" class="live-dot"><i></i>{{ t("实时", "live") }}</span>
    <div v-if="separate" class="tabs" role="group"><button v-for="name in ['stdout', 'stderr']" :key="name" class="tab" :aria-pressed="stream === name" @click="stream = name">{{ name }}</button></div>
    <span class="grow"></span>
    <label class="find"><Icon name="search" :size="15" /><input v-model="wanted" type="search" :placeholder="t('在输出里找', 'Find')" :aria-label="t('在输出里找', 'Find in output')" @keydown.enter.prevent="nextHit($event.shiftKey ? -1 : 1)"><small v-if="wanted">{{ hits.length ? at + 1 + " / " + hits.length : 0 }}</small></label>
    <a class="icon-button" :href="download" download :title="t('下载全部', 'Download')" :aria-label="t('下载全部', 'Download')"><Icon name="download" /></a></div>
    <div class="terminal-box"><pre ref="box" class="terminal" :class="{ live }" tabindex="0" :aria-label="t('输出', 'Output')" @scroll="scrolled"><span v-if="before || log.dropped" class="terminal-note">{{ t("前面还有 " + bytes(before) + (log.dropped ? "，" + log.dropped + " 行" : "") + "，下载可看全部", bytes(before) + (log.dropped ? " and " + log.dropped + " lines" : "") + " before this; download to see all") }}
</span><span v-for="line in lines" :key="line.id" class="log-line" :data-line="line.id" :class="{ hit: wanted && hits.includes(line.id), now: wanted && hits[at] === line.id }"><span v-for="(part, index) in line.parts" :key="index" :style="part.style">{{ part.text }}</span>
</span><span v-if="!lines.length" class="terminal-note">{{ error || (started || ended ? (live ? t("还没有输出。写了就会出现在这里。", "Nothing yet. Output appears here as it is written.") : t("没有输出。", "No output.")) : t("正在读……", "Reading…")) }}</span></pre>
    <button v-if="!pinned && live" class="button to-end" @click="pin"><Icon name="down" :size="15" />{{ t("回到末尾", "Follow") }}</button></div></section>`,
};
