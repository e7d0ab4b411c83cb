// 管理：现行的设置。运行时可以改的当场改（POST /cluster/apply，与 scns apply 同一条路），别的要改文件、重启。
import { computed, ref } from "vue";
import { call, Problem } from "./call.js";
import { ask, tell } from "./dialogs.js";
import { facts, t } from "./facts.js";
import { ago, duration, exact } from "./format.js";
import { changed, live } from "./live.js";
import { RecordForm } from "./record_form.js";

const written = (value) => (value === null || value === "" ? "—" : Array.isArray(value) ? value.join(", ") || "—" : typeof value === "object" ? Object.entries(value).map(([name, amount]) => `${name}=${amount}`).join(", ") || "—" : typeof value === "boolean" ? (value ? t("是", "yes") : t("否", "no")) : String(value));

// 以秒计的，长的另写成天、小时。
const inWords = (name, value) => (/_s$/.test(name) && value >= 120 ? duration(value) : "");

// cluster.yaml 的 JSON Schema 里这一项的样子 -> 表单的种类与选项。
function fieldOf(name, schema) {
  const one = schema.anyOf?.find((each) => each.type !== "null") ?? schema;
  const kind = { boolean: "flag", integer: "number", number: "number", array: "words", object: "map" }[one.type] ?? "text";
  return [name, [name, name], kind, one.enum ?? { map: "age=1000,qos=500", words: "limits,qos" }[kind] ?? ""];
}

async function apply(settings, { remove = false } = {}) {
  // 去掉一项要写明其余的（prune）：先看一遍，真的只去掉它才照做，别人同时改的不会一起没有了。
  if (!remove) return call("POST", "/cluster/apply", { settings });
  const { changed: before } = await call("GET", "/config");
  const kept = Object.fromEntries(Object.entries(before).filter(([name]) => !(name in settings)).map(([name, one]) => [name, one.value]));
  const seen = await call("POST", "/cluster/apply?prune=true&dry_run=true", { settings: kept });
  if (seen.changes.some((each) => each.action !== "delete" || !(each.name in settings))) throw new Problem(409, "plan_changed", t("刚刚有别人也改了设置；请再试", "The settings were changed meanwhile; try again"));
  return call("POST", "/cluster/apply?prune=true&expect=" + seen.fingerprint, { settings: kept });
}

export const AdminSettings = {
  components: { RecordForm },
  setup() {
    const config = live("/config", 3), kinds = ref({}), open = ref(null);
    call("GET", "/cluster/schema").then((schema) => (kinds.value = schema.$defs.RuntimeSettings.properties), (problem) => tell(problem.detail, { kind: "error" }));
    const rows = computed(() => Object.entries(kinds.value).filter(([name]) => name in (config.data?.settings ?? {})).map(([name, schema]) => ({ name, schema, value: config.data.settings[name], changed: config.data.changed[name] ?? null })));
    const fixed = computed(() => Object.entries(config.data?.settings ?? {}).filter(([name]) => Object.keys(kinds.value).length && !(name in kinds.value)));
    async function put(name, value, before) {
      await (value === null ? apply({ [name]: null }, { remove: true }) : apply({ [name]: value }));
      changed();
      tell(value === null ? t(`${name} 又照启动时的`, `${name} is back to its start-up value`) : t(`${name} 改了，立即照它办`, `${name} changed, in force now`), before === undefined ? {} : { undo: () => put(name, before).catch((problem) => tell(problem.detail, { kind: "error" })) });
    }
    // 数空着就是照启动时的；字空着就是空的。
    const send = (row) => async (changes) => {
      if (!(row.name in changes)) return;
      const value = changes[row.name] ?? (typeof row.value === "string" ? "" : null);
      try {
        await put(row.name, value, row.changed ? row.changed.value : null);
      } catch (problem) {
        throw new Problem(problem.status, problem.code, problem.detail, problem.errors.map((each) => ({ ...each, field: row.name })));
      }
    };
    async function revert(row) {
      if (!await ask({ title: t(`${row.name} 照启动时的`, `Revert ${row.name}`), text: t("去掉运行时改的；环境变量与设置文件里写的，或缺省值，立即生效。", "The run-time change goes; the environment, the settings file or the default applies at once."), action: t("照启动时的", "Revert") })) return;
      await put(row.name, null, row.changed.value).catch((problem) => tell(problem.detail, { kind: "error" }));
    }
    return { config, rows, fixed, open, written, inWords, fieldOf, send, revert, facts, ago, exact, t };
  },
  template: `
  <section class="card"><h2>{{ t("运行时可以改的", "Changeable while running") }}</h2><p class="hint">{{ t("改了立即照它办，不重启；与 scns apply 同一处，写进审计。", "Changes take effect at once, without a restart; the same as scns apply, and audited.") }}</p>
    <p v-if="config.error" class="notice bad" role="alert">{{ config.error.detail }}</p>
    <div v-if="!rows.length" class="bars"><i></i><i></i><i></i></div>
    <ul v-else class="settings"><li v-for="row in rows" :key="row.name" :class="{ changed: row.changed }"><div class="setting-name"><code>{{ row.name }}</code><p class="hint">{{ row.schema.description }}</p></div>
      <div class="setting-value"><span><b>{{ written(row.value) }}</b> <small>{{ inWords(row.name, row.value) }}</small></span><small v-if="row.changed" :title="exact(row.changed.changed_at)">{{ t("运行时改的：", "changed: ") }}<bdi>{{ row.changed.changed_by }}</bdi>{{ t("，", ", ") }}{{ ago(row.changed.changed_at) }}</small></div>
      <div v-if="facts.admin" class="setting-buttons"><button v-if="row.changed" class="text-button" :aria-label="t('照启动时的 ', 'Revert ') + row.name" @click="revert(row)">{{ t("照启动时的", "Revert") }}</button><button class="button" :aria-label="t('修改 ', 'Edit ') + row.name" @click="open = row">{{ t("修改", "Edit") }}</button></div></li></ul></section>
  <section class="card below"><h2>{{ t("启动时定的", "Fixed at start-up") }}</h2><p class="hint">{{ t("改设置文件或环境变量，重启之后生效；各项的意思见 scns config --help 与文档。", "Change the settings file or the environment and restart; see scns config and the documentation.") }}</p><dl class="facts"><template v-for="[name, value] in fixed" :key="name"><dt>{{ name }}</dt><dd>{{ written(value) }} <small>{{ inWords(name, value) }}</small></dd></template></dl></section>
  <RecordForm v-if="open" :title="t('修改 ', 'Edit ') + open.name" :fields="[fieldOf(open.name, open.schema)]" :given="{ [open.name]: open.value }" :original="{ [open.name]: open.value }" :send="send(open)" @done="open = null"><p class="hint">{{ open.schema.description }}</p></RecordForm>`,
};
