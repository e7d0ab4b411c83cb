"""终端里的表：汉字占两格，按列对齐。"""

import os
import unicodedata
from collections.abc import Sequence

import click

from scns_conductor.cli.say import say
from scns_conductor.language import told


def width(text: str) -> int:
    """在终端里占几格；东亚宽字符占两格（Unicode UAX #11），组合字符不占。"""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def printable(text: str) -> str:
    """控制字符换成可见的转义：作业名里的换行、终端控制序列不能弄乱终端。"""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def render(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """对齐的表，行间换行，末尾没有换行；每行末尾不留空白。"""
    lines = [tuple(map(told, header)), *[tuple(printable(cell) for cell in row) for row in rows]]
    widths = [max(width(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell + " " * (size - width(cell)) for cell, size in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], nothing: str, colours: Sequence[str | None] = ()
) -> None:
    """打印一张表；一行也没有时只在标准错误上说一句，不留一个光的表头。

    colours 是各行的颜色，只在终端里有（NO_COLOR 关掉）。
    """
    if not rows:
        say(nothing, err=True)
        return
    first, *lines = render(header, rows).split("\n")
    if colours:
        lines = [click.style(line, fg=colour) for line, colour in zip(lines, colours, strict=True)]
    click.echo("\n".join([first, *lines]), color=False if os.environ.get("NO_COLOR") else None)


def render_fields(pairs: Sequence[tuple[str, str]]) -> str:
    """一列名字、一列值；值有多行时后面的行缩进对齐。"""
    pairs = [(told(name), value) for name, value in pairs]
    size = max((width(name) for name, _ in pairs), default=0)
    lines = []
    for name, value in pairs:
        first, *rest = [printable(line) for line in value.split("\n")]
        lines.append(f"{name}{' ' * (size - width(name))}  {first}".rstrip())
        lines.extend(" " * (size + 2) + line for line in rest)
    return "\n".join(lines)
