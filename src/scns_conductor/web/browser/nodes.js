// 全部节点：一张图，一张表。
import { computed, ref } from "vue";
import { segment } from "./call.js";
import { facts, t } from "./facts.js";
import { count, memory, percent } from "./format.js";
import { live } from "./live.js";
import { NodeMap } from "./node_map.js";
import { rowsOf } from "./node_rows.js";
import { go, route, setQuery } from "./route.js";
import { NodeTag, nodeLook, nodeWord } from "./state_tag.js";

const MOST_ROWS = 200;

export default {
  components: { NodeMap, NodeTag },
  setup() {
    const found = live("/nodemap");
    const all = computed(() => rowsOf(found.data));
    const states = computed(() => [...all.value.reduce((counts, node) => counts.set(nodeLook(node.state), (counts.get(nodeLook(node.state)) ?? 0) + 1), new Map())]);
    const nodes = computed(() => all.value.filter((node) => (!route.query.state || nodeLook(node.state) === nodeLook(route.query.state)) && (!route.query.find || node.name.includes(route.query.find))));
    const open = (name) => go("/nodes/" + segment(name));
    const listed = computed(() => nodes.value.slice(0, MOST_ROWS));
    return { found, all, states, nodes, listed, open, route, setQuery, facts, t, count, memory, percent, nodeLook, nodeWord, segment };
  },
  template: `
  <div class="page-head"><h1>{{ t("节点", "Nodes") }}</h1><span class="grow"></span>
    <label class="field inline"><span class="unseen">{{ t("名字里有", "Name contains") }}</span><input type="search" :value="route.query.find ?? ''" :placeholder="t('名字里有……', 'Name contains…')" @input="setQuery({ find: $event.target.value })"></label></div>
  <div class="chips" role="group" :aria-label="t('按状态', 'By state')"><button class="chip" :aria-pressed="!route.query.state" @click="setQuery({ state: null })">{{ t("全部", "All") }} <b>{{ count(all.length) }}</b></button>
    <button v-for="[state, total] in states" :key="state" class="chip" :aria-pressed="nodeLook(route.query.state ?? '') === state" @click="setQuery({ state })">{{ nodeWord(state) }} <b>{{ count(total) }}</b></button></div>
  <div v-if="!found.data" class="card bars"><i></i><i></i><i></i></div>
  <template v-else><section class="card" :aria-label="t('节点图', 'Node map')"><NodeMap :nodes="nodes" @open="open" />
    <p class="map-key hint"><span><i class="key-cpu"></i>{{ t("CPU，从下往上", "CPU, from below") }}</span><span><i class="key-gpu"></i>{{ t("GPU，上边一条", "GPU, strip on top") }}</span><span><i class="key-drain"></i>{{ t("排空", "draining") }}</span><span><i class="key-down"></i>{{ t("下线", "down") }}</span></p></section>
    <div class="card table-box below" tabindex="0" role="region" :aria-label="t('节点的表', 'Nodes table')"><table class="table"><thead><tr><th scope="col">{{ t("节点", "Node") }}</th><th scope="col">{{ t("状态", "State") }}</th><th scope="col" class="number">CPU</th><th scope="col" class="number">{{ t("内存", "Memory") }}</th><th scope="col" class="number">GPU</th><th scope="col">{{ t("分区", "Partitions") }}</th><th scope="col">{{ t("原因", "Reason") }}</th></tr></thead>
      <tbody><tr v-for="node in listed" :key="node.name"><td class="job-cell"><a :href="'/nodes/' + segment(node.name)"><b class="job-id">{{ node.name }}</b></a></td><td :data-label="t('状态', 'State')"><NodeTag :state="node.state" /></td><td class="number" data-label="CPU">{{ node.allocated_cpus }} / {{ node.cpus }}</td><td class="number" :data-label="t('内存', 'Memory')">{{ memory(node.allocated_memory) }} / {{ memory(node.memory) }}</td><td class="number" data-label="GPU">{{ node.gpus ? node.allocated_gpus + " / " + node.gpus : "—" }}</td><td :data-label="t('分区', 'Partitions')">{{ node.partitions }}</td><td :title="node.reason" class="column-reason">{{ node.reason ?? "" }}</td></tr></tbody></table></div>
    <p v-if="nodes.length > listed.length" class="hint">{{ t("表里只列前 " + listed.length + " 个，图里是全部", "The table lists the first " + listed.length + "; the map has all") }}</p></template>`,
};
