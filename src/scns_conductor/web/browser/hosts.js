// node[1-3,7] -> 各个名字；只为了画图，写不下的就当一个名字。
export function expandHosts(text) {
  if (!text) return [];
  return text.split(/,(?![^[]*\])/).flatMap((word) => {
    const found = /^([^[]*)\[([\d,-]+)\]([^[\]]*)$/.exec(word);
    if (!found) return [word];
    return found[2].split(",").flatMap((range) => {
      const [first, last = first] = range.split("-");
      if (Number(last) - Number(first) > 5000) return [];
      return Array.from({ length: Number(last) - Number(first) + 1 }, (_, index) => found[1] + String(Number(first) + index).padStart(first.length, "0") + found[3]);
    });
  });
}
