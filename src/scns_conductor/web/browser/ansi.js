// 输出里的 ANSI 颜色 -> {text, style}；别的控制序列去掉，\r 从行首重写。
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const SEQUENCE = /\u001b\[([0-9;:]*)([A-Za-z])|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[()][A-Z0-9]|\u001b./g;

export class AnsiLines {
  constructor(most = 5000) {
    Object.assign(this, { most, lines: [], dropped: 0, open: [], style: {}, next: 1 });
  }

  // 加一段文字；最后没有换行的那一行留在 open 里。
  add(text) {
    let last = 0;
    for (const match of text.matchAll(SEQUENCE)) {
      this.plain(text.slice(last, match.index));
      if (match[2] === "m") this.restyle(match[1]);
      last = match.index + match[0].length;
    }
    this.plain(text.slice(last));
    if (this.lines.length > this.most) {
      const over = this.lines.length - this.most;
      this.lines.splice(0, over);
      this.dropped += over;
    }
  }

  plain(text) {
    const parts = text.split("\n");
    parts.forEach((part, index) => {
      const rewritten = part.replace(/\r+$/, "").lastIndexOf("\r");
      if (rewritten >= 0) {
        this.open = [];
        part = part.slice(rewritten + 1);
      }
      part = part.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (c) => (c === "\r" ? "" : "�"));
      if (part) this.open.push({ text: part, style: this.css() });
      if (index < parts.length - 1) {
        this.lines.push({ id: this.next++, parts: this.open });
        this.open = [];
      }
    });
  }

  restyle(codes) {
    const words = (codes || "0").split(/[;:]/).map(Number);
    for (let at = 0; at < words.length; at++) {
      const code = words[at], style = this.style;
      if (code === 0) this.style = {};
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 3) style.italic = true;
      else if (code === 4) style.underline = true;
      else if (code === 7) style.inverse = true;
      else if (code === 22) style.bold = style.dim = false;
      else if (code === 23) style.italic = false;
      else if (code === 24) style.underline = false;
      else if (code === 27) style.inverse = false;
      else if (code >= 30 && code <= 37) style.color = `var(--ansi-${NAMES[code - 30]})`;
      else if (code >= 90 && code <= 97) style.color = `var(--ansi-${NAMES[code - 90]})`;
      else if (code === 39) style.color = null;
      else if (code >= 40 && code <= 47) style.background = `color-mix(in srgb, var(--ansi-${NAMES[code - 40]}) 30%, transparent)`;
      else if (code === 49) style.background = null;
      else if (code === 38 || code === 48) {
        const value = words[at + 1] === 5 ? indexed(words[at + 2]) : `rgb(${words.slice(at + 2, at + 5).join(" ")})`;
        style[code === 38 ? "color" : "background"] = value;
        at += words[at + 1] === 5 ? 2 : 4;
      }
    }
  }

  css() {
    const { bold, dim, italic, underline, inverse, color, background } = this.style;
    const found = {};
    if (bold) found.fontWeight = 700;
    if (dim) found.opacity = 0.75;
    if (italic) found.fontStyle = "italic";
    if (underline) found.textDecoration = "underline";
    if (inverse) Object.assign(found, { background: color ?? "var(--text)", color: "var(--code)" });
    else {
      if (color) found.color = color;
      if (background) found.background = background;
    }
    return Object.keys(found).length ? found : null;
  }
}

function indexed(number) {
  if (number < 16) return `var(--ansi-${NAMES[number % 8]})`;
  if (number >= 232) return `rgb(${Array(3).fill(8 + 10 * (number - 232)).join(" ")})`;
  const step = (value) => (value ? 55 + 40 * value : 0), rest = number - 16;
  return `rgb(${step(Math.floor(rest / 36))} ${step(Math.floor(rest / 6) % 6)} ${step(rest % 6)})`;
}
