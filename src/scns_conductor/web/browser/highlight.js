// 脚本的着色：#SBATCH 行、注释、字符串、变量、关键字。只产生 {text, kind}，从不拼 HTML。
const BASH = /(#.*$)|("(?:\\.|[^"\\])*"|'[^']*')|(\$\{[^}]*\}|\$\w+|\$[@*#?!$-])|\b(if|then|else|elif|fi|for|in|do|done|while|until|case|esac|function|return|local|export|set|source|exit|trap|shift|read)\b|\b(\d+)\b/g;
const PYTHON = /(#.*$)|("""[^]*?"""|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(@\w+)|\b(False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|if|import|in|is|lambda|not|or|pass|raise|return|try|while|with|yield)\b|\b(\d+(?:\.\d+)?)\b/g;
const KINDS = [null, "comment", "string", "variable", "keyword", "digit"];
const LONGEST_LINE = 2000;

export function highlight(script) {
  const lines = script.split("\n");
  const rules = /^#!.*python/.test(lines[0] ?? "") ? PYTHON : BASH;
  return lines.map((line, index) => {
    if (index === 0 && line.startsWith("#!")) return [{ text: line, kind: "shebang" }];
    if (line.startsWith("#SBATCH")) return [{ text: "#SBATCH", kind: "sbatch" }, { text: line.slice(7), kind: "option" }];
    if (line.length > LONGEST_LINE) return [{ text: line, kind: "" }];
    const parts = [];
    let last = 0;
    for (const match of line.matchAll(rules)) {
      if (match.index > last) parts.push({ text: line.slice(last, match.index), kind: "" });
      parts.push({ text: match[0], kind: KINDS[match.slice(1).findIndex((group) => group !== undefined) + 1] });
      last = match.index + match[0].length;
    }
    if (last < line.length || !parts.length) parts.push({ text: line.slice(last), kind: "" });
    return parts;
  });
}
