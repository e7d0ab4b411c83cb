// NiceGUI 的组件：只是浏览器与服务器之间的一座桥，画面从 source 载入。
export default {
  props: { source: String, facts: Object },
  data: () => ({ app: null }),
  template: `<component v-if="app" :is="app" />`,
  async mounted() {
    const main = await import(this.source);
    this.deliver = main.start(
      this.facts,
      (name, detail) => this.$emit(name, detail),
      (again) => window.socket.io.on("reconnect", again),
    );
    this.app = Vue.markRaw(main.default);
  },
  methods: {
    receive(number, message, error) {
      this.deliver?.(number, message, error);
    },
  },
};
