// 一直是新的数据：告诉服务器要看什么，变了它会送来。
import { onScopeDispose, reactive, toValue, watch } from "vue";

let send = () => {};
let next = 1;
// 正看着、跟着的：编号 -> { what: watch 或 follow, detail: 要什么, receive: 收答案的 }。
const wanted = new Map();
// 最近一次送来是什么时候、API 在不在：顶上的横幅看它。
export const connection = reactive({ error: null, at: Date.now() });

// reconnected 在连接断了又接上时调用传给它的函数：断开前后那一刻发出的会丢，所以把要的整个再说一遍。
export function connect(emit, reconnected) {
  send = emit;
  reconnected(() => send("wanted", { all: [...wanted.values()].map(({ what, detail }) => [what, detail]) }));
  return (number, message, error) => wanted.get(number)?.receive(message, error);
}

function ask(what, detail, receive) {
  wanted.set(detail.id, { what, detail, receive });
  send(what, detail);
  return () => {
    wanted.delete(detail.id);
    send("unwatch", { id: detail.id });
  };
}

// 刚刚改了什么：请服务器立即重看。
export const changed = () => send("changed", {});

// target 是路径（或返回路径的函数，null 是先不看）；返回 {data, error}。
export function live(target, every = 1.5) {
  const found = reactive({ data: null, error: null, target: null });
  let stop = null;
  const leave = () => (stop?.(), (stop = null));
  watch(() => toValue(target), (path) => {
    leave();
    found.target = path;
    if (!path) {
      found.data = found.error = null;
      return;
    }
    stop = ask("watch", { id: next++, target: path, every }, (body, error) => {
      if (error) {
        found.error = error;
        if (error.status === 0 || error.status === 401 || error.status >= 500) connection.error = error;
        return;
      }
      connection.error = null;
      connection.at = Date.now();
      found.error = null;
      found.data = JSON.parse(body);
    });
  }, { immediate: true });
  onScopeDispose(leave);
  return found;
}

// 跟随一路输出；receive 收到服务器送来的每一段。返回停下的函数。
export const follow = (jobId, stream, receive) => ask("follow", { id: next++, job_id: jobId, stream }, receive);
