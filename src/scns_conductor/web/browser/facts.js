// 来访者是谁、用什么语言、服务器的钟：全部页面共用。
import { reactive } from "vue";

export const facts = reactive({
  cluster: "scns", language: "zh", user_name: "", admin: false, operator: false, auditor: false, coordinates: null, expires_at: 0,
});
// coordinates 是他作协调人的账户，连同各级下级；还没有问到是 null。审计员什么都看得到，什么也不能改。
export const seesAll = () => facts.admin || facts.operator || facts.auditor;
export const readsOnly = () => facts.auditor && !facts.admin && !facts.operator;
let clockOffset = 0;
export const clock = reactive({ now: Date.now() });

export function learn(given) {
  Object.assign(facts, given);
  // 浏览器的钟可能不准：时长与“多久之前”都按服务器的钟算。
  clockOffset = given.now * 1000 - Date.now();
  clock.now = Date.now() + clockOffset;
  setInterval(() => (clock.now = Date.now() + clockOffset), 1000);
}

export const english = () => facts.language === "en";
export const t = (zh, en) => (facts.language === "en" ? en : zh);
