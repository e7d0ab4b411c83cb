// 一直是新的数据：告诉服务器要看什么，变了它会送来。
import { onScopeDispose, reactive, toValue, watch } from "vue";

let send = () => {};
let next = 1;
const receivers = new Map();
// 最近一次送来是什么时候、API 在不在：顶上的横幅看它。
export const connection = reactive({ error: null, at: Date.now() });

export function connect(emit) {
  send = emit;
  return (number, message, error) => receivers.get(number)?.(message, error);
}

// 刚刚改了什么：请服务器立即重看。
export const changed = () => send("changed", {});

// target 是路径（或返回路径的函数，null 是先不看）；返回 {data, error}。
export function live(target, every = 1.5) {
  const found = reactive({ data: null, error: null, target: null });
  let number = null;
  const stop = () => {
    if (number === null) return;
    receivers.delete(number);
    send("unwatch", { id: number });
    number = null;
  };
  watch(() => toValue(target), (wanted) => {
    stop();
    found.target = wanted;
    if (!wanted) {
      found.data = found.error = null;
      return;
    }
    number = next++;
    receivers.set(number, (body, error) => {
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
    send("watch", { id: number, target: wanted, every });
  }, { immediate: true });
  onScopeDispose(stop);
  return found;
}

// 跟随一路输出；receive 收到服务器送来的每一段。返回停下的函数。
export function follow(jobId, stream, receive) {
  const number = next++;
  receivers.set(number, receive);
  send("follow", { id: number, job_id: jobId, stream });
  return () => {
    receivers.delete(number);
    send("unwatch", { id: number });
  };
}
