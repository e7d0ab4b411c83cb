// 表单里的字 <-> API 的值：列表用逗号，TRES 是 cpu=8,mem=4G，时长是 天-时:分:秒，对照表（map）是 age=1000,qos=500，空的是 null。
const pad = (value) => String(value).padStart(2, "0");

export function limitText(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const days = Math.floor(seconds / 86400), rest = seconds % 86400;
  return `${days ? days + "-" : ""}${pad(Math.floor(rest / 3600))}:${pad(Math.floor(rest / 60) % 60)}:${pad(rest % 60)}`;
}

export const tresText = (tres) => Object.entries(tres ?? {}).map(([name, amount]) => `${name}=${name === "mem" ? amount + "M" : amount}`).join(",");

// datetime-local 的写法，浏览器的时区。
export function localMoment(instant) {
  if (!instant) return "";
  const when = new Date(instant);
  return new Date(when.getTime() - when.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

export function textOf(kind, value) {
  if (kind === "flag") return value ? "true" : "";
  if (kind === "tres") return tresText(value);
  if (kind === "limit") return limitText(value);
  if (kind === "list" || kind === "words") return (value ?? []).join(",");
  if (kind === "map") return Object.entries(value ?? {}).map(([name, amount]) => `${name}=${amount}`).join(",");
  if (kind === "moment") return localMoment(value);
  if (kind === "memory") return value === null || value === undefined ? "" : value + "M";
  return value === null || value === undefined ? "" : String(value);
}

// before 是原来的值：TRES 里去掉的那几种要写成 null。
export function valueOf(kind, text, before) {
  if (kind === "flag") return text === "true";
  const words = text.split(",").map((word) => word.trim()).filter(Boolean);
  // list 空的是 null（都许、由上级继承），words 空的就是一个也没有。
  if (kind === "list") return words.length ? words : null;
  if (kind === "words") return words;
  if (kind === "tres") {
    const found = Object.fromEntries(words.map((word) => [word.split("=")[0].trim(), word.slice(word.indexOf("=") + 1).trim()]));
    return { ...Object.fromEntries(Object.keys(before ?? {}).map((name) => [name, null])), ...found };
  }
  // 名字里可以有斜线与等号之外的字；不是数的留着原样，由 API 说。
  if (kind === "map") return Object.fromEntries(words.map((word) => { const at = word.lastIndexOf("="), amount = word.slice(at + 1).trim(); return at < 0 ? [word, null] : [word.slice(0, at).trim(), amount === "" || Number.isNaN(Number(amount)) ? amount : Number(amount)]; }));
  if (text === "") return null;
  if (kind === "number") return Number(text);
  if (kind === "moment") return new Date(text).toISOString();
  return text;
}
