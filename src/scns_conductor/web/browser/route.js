// 地址栏就是状态：换页、后退、深链接都走这里。
import { reactive } from "vue";

const read = () => ({
  path: decodeURI(location.pathname),
  query: Object.fromEntries(new URLSearchParams(location.search)),
});
export const route = reactive(read());

function arrive() {
  const { path, query } = read();
  const moved = path !== route.path;
  Object.assign(route, { path, query });
  if (moved) requestAnimationFrame(() => {
    window.scrollTo(0, 0);
    document.getElementById("content")?.focus({ preventScroll: true });
  });
}

export function go(target, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", target);
  arrive();
}

// 改查询串里的几项；空的去掉。
export function setQuery(changes, { replace = true } = {}) {
  const merged = { ...route.query, ...changes };
  const kept = Object.entries(merged).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(kept).toString();
  go(route.path + (text ? "?" + text : ""), { replace });
}

export function listen() {
  window.addEventListener("popstate", arrive);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const there = new URL(link.href, location.href);
    if (there.origin !== location.origin || link.target || link.hasAttribute("download")) return;
    if (/^\/(api|login|logout|language)(\/|$)/.test(there.pathname)) return;
    if (there.hash && there.pathname === location.pathname && there.search === location.search) return;
    event.preventDefault();
    go(there.pathname + there.search);
  });
}
