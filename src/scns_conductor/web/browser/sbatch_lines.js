// 改脚本里的 #SBATCH 行：脚本是唯一的真相，表单只是它的另一种样子。
const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const quoted = (value) => (/[\s"'#]/.test(value) ? `"${value.replace(/(["\\$`])/g, "\\$1")}"` : value);

// names 是 [长, 短]，如 ["--time", "-t"]；value 是空的就去掉这一行。
export function withOption(script, names, value) {
  const pattern = new RegExp(`^#(?:SBATCH|SCNS)\\s+(?:${names.map(escape).join("|")})(?:[=\\s].*)?$`);
  const lines = script.split("\n");
  const wanted = value === "" || value === null || value === undefined ? null : `#SBATCH ${names[0]}=${quoted(String(value))}`;
  const at = lines.findIndex((line) => pattern.test(line));
  if (at >= 0) {
    if (wanted === null) lines.splice(at, 1);
    else lines[at] = wanted;
    return lines.join("\n");
  }
  if (wanted === null) return script;
  // 接在最后一个 #SBATCH 之后；还没有的，接在 #! 之后。
  let last = lines[0]?.startsWith("#!") ? 0 : -1;
  for (let index = 0; index < lines.length && (lines[index].startsWith("#") || !lines[index].trim()); index++) if (/^#(SBATCH|SCNS)/.test(lines[index])) last = index;
  lines.splice(last + 1, 0, wanted);
  return lines.join("\n");
}
