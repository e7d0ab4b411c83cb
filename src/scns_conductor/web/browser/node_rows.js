// 简表的一行行数 -> 带名字的。
export function rowsOf(found) {
  if (!found) return [];
  return found.nodes.map((row) => Object.fromEntries(found.fields.map((name, index) => [name, row[index]])));
}
