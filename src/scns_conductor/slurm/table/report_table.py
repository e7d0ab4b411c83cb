"""sreport、sacctmgr 一类的表：各列右对齐，太长的末尾是 +；-p、-P 用 | 相隔（Slurm 的 print_fields）。"""

from collections.abc import Sequence

from scns_conductor.slurm.table.terminal_text import printable


def rows(columns: Sequence[tuple[str, int]], cells: Sequence[Sequence[str]], *, header: bool, bars: str) -> list[str]:
    """columns 是 (表头, 宽)；bars 是 ""（补齐）、"parsable"（末尾有 |）或 "parsable2"。"""
    heads = [name for name, _ in columns]
    cells = [[printable(cell) for cell in row] for row in cells]
    if bars:
        end = "|" if bars == "parsable" else ""
        return ["|".join(row) + end for row in ([heads] if header else []) + [list(row) for row in cells]]
    widths = [width for _, width in columns]
    lines = []
    if header:
        lines.append("".join(f"{name[:width]:>{width}} " for name, width in zip(heads, widths, strict=True)))
        lines.append("".join("-" * width + " " for width in widths))
    for row in cells:
        pairs = list(zip(row, widths, strict=True))
        shown = [cell if len(cell) <= width else cell[: width - 1] + "+" for cell, width in pairs]
        lines.append("".join(f"{cell:>{width}} " for cell, width in zip(shown, widths, strict=True)))
    return lines
