"""--help 里的选项：由解析用的那张表列出，一个也不会漏。"""

from collections.abc import Iterable

from scns_conductor.slurm.parse.options import Option

_MARKS = {"none": "", "value": "=VALUE", "optional": "[=VALUE]"}


def help_lines(options: Iterable[Option]) -> list[str]:
    """每个选项一行：短的、长的各种写法，要不要值；按长选项的字母序。"""
    lines = {}
    for each in options:
        words = [*(f"-{letter}" for letter in each.short), *(f"--{word}" for word in each.long)]
        lines[(each.long or (each.short,))[0].lower()] = f"  {', '.join(words)}{_MARKS[each.takes]}"
    return ["Options:", *(line for _, line in sorted(lines.items()))]
