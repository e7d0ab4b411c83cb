"""--help 里的选项：由解析用的那张表列出，一个也不会漏。"""

from collections.abc import Iterable

from scns_conductor.slurm.parse.options import Option

_MARKS = {"none": "", "value": "=VALUE", "optional": "[=VALUE]"}
_EFFECTS = {
    "works": "",
    "hint": "  (accepted, no effect)",
    "warned": "  (accepted with a warning, no effect)",
    "refused": "  (not supported)",
}


_WIDTH = 80


def usage_lines(options: Iterable[Option]) -> list[str]:
    """--usage：每个选项在一对方括号里，接着写，太长就折行；也由那张表列出。"""
    words = {}
    for each in options:
        name = f"--{each.long[0]}" if each.long else f"-{each.short[0]}"
        short = f"-{each.short[0]}|" if each.short and each.long else ""
        words[name.lower()] = f"[{short}{name}{_MARKS[each.takes]}]"
    lines: list[str] = []
    for _, word in sorted(words.items()):
        if lines and len(lines[-1]) + 1 + len(word) <= _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"        {word}")
    return lines


def help_lines(options: Iterable[Option]) -> list[str]:
    """每个选项一行：短的、长的各种写法，要不要值；按长选项的字母序。"""
    lines = {}
    for each in options:
        words = [*(f"-{letter}" for letter in each.short), *(f"--{word}" for word in each.long)]
        lines[(each.long or (each.short,))[0].lower()] = (
            f"  {', '.join(words)}{_MARKS[each.takes]}{_EFFECTS[each.effect]}"
        )
    return ["Options:", *(line for _, line in sorted(lines.items()))]
