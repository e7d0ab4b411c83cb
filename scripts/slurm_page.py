#!/usr/bin/env python3
"""把 docs/slurm-compat.md 里各命令的选项表重写一遍：由命令自己解析用的那张表（有没有作用、拒绝不拒绝都在里面）。

python scripts/slurm_page.py           # 写进 docs/slurm-compat.md
python scripts/slurm_page.py --check   # 只看：不一样退出码 1
页里 <!-- options: 命令 --> 与 <!-- /options --> 之间的由这里写；
tests/unit/test_slurm_page.py 核对，并把每个选项真的给命令一次。
"""

import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from slurm_option_reasons import REASONS, key_of

from scns_conductor.slurm.entry import COMMANDS
from scns_conductor.slurm.parse.options import Option

PAGE = Path(__file__).parents[1] / "docs" / "slurm-compat.md"
ROWS = (("works", "照办"), ("hint", "收下，不起作用"), ("warned", "收下，提醒一句"), ("refused", "点名拒绝"))
REASON_BLOCK = re.compile(r"(<!-- reasons -->\n).*?(<!-- /reasons -->)", re.DOTALL)
BLOCK = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- /options -->)", re.DOTALL)


def options_of(command: str) -> list[Option]:
    """一个命令认得的选项。"""
    module = importlib.import_module(f"scns_conductor.slurm.{COMMANDS[command]}.{command}")
    return list(module.OPTIONS)


def spelling(option: Option) -> str:
    """一个选项在表里的写法：短的在前，要值的写出来；两种长的写法都写。"""
    words = [*(f"-{letter}" for letter in option.short), *(f"--{word}" for word in option.long)]
    value = {"none": "", "value": "=…" if option.long else " …", "optional": "[=…]"}[option.takes]
    return "/".join(words) + value


def table(options: Iterable[Option]) -> str:
    """Markdown 的表；没有的那一行不写。"""
    lines = ["| | 选项 |", "|---|---|"]
    for effect, title in ROWS:
        found = sorted(
            {spelling(each) for each in options if each.effect == effect},
            key=lambda text: (text.lstrip("-").lower(), text),
        )
        if found:
            lines.append(f"| {title} | {' '.join(f'`{text}`' for text in found)} |")
    return "\n".join(lines) + "\n"


def name_of(option: Option) -> str:
    """说到一个选项时的名字：第一个长的，没有就是短的。"""
    return f"--{option.long[0]}" if option.long else f"-{option.short[0]}"


def reason_table() -> str:
    """没有作用、提醒、拒绝的选项：哪些命令的，为什么；理由相同的一行。"""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for command in COMMANDS:
        for option in options_of(command):
            key = key_of(command, name_of(option)) if option.effect != "works" else None
            if key is not None:
                names = found.setdefault((option.effect, REASONS[key]), {})
                commands = names.setdefault(name_of(option), [])
                commands += [command] if command not in commands else []
    lines = ["| | 选项 | 为什么 |", "|---|---|---|"]
    for effect, title in ROWS[1:]:
        for (of_effect, why), names in found.items():
            if of_effect == effect:
                shown = "、".join(f"`{name}`（{' '.join(commands)}）" for name, commands in names.items())
                lines.append(f"| {title} | {shown} | {why} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """页里的各张表换成现在的。"""
    text = REASON_BLOCK.sub(lambda found: found[1] + reason_table() + found[2], text)
    return BLOCK.sub(lambda found: found[1] + table(options_of(found[2])) + found[3], text)


def commands_in(text: str) -> list[str]:
    """页里有选项表的命令。"""
    return [found[2] for found in BLOCK.finditer(text)]


def main() -> int:
    """写，或只看。"""
    text = PAGE.read_text()
    new = rewritten(text)
    if "--check" in sys.argv[1:]:
        return int(new != text)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
