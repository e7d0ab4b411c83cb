"""sacct 的各列与行：--format 选了哪些，怎样排成表。"""

import re
from collections.abc import Sequence

from scns_conductor.slurm.accounting.accounting_columns import FIELDS, Field
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.table.columnar import Row
from scns_conductor.slurm.table.columns import Cells
from scns_conductor.slurm.table.terminal_text import on_terminal, printable

_WORD = re.compile(r"^\s*([A-Za-z]+)(?:%(-?\d*))?\s*$")
NEWER = ("Extra", "FailedNode", "WaitBreakdown")


def chosen_fields(texts: Sequence[str]) -> list[tuple[Field, int]]:
    """名字[%宽]，逗号相隔；名字可以写前几个字母。"""
    found: list[tuple[Field, int]] = []
    for word in ",".join(texts).split(","):
        if not word.strip():
            continue
        if word.strip().lower() == "all":
            # Extra、FailedNode 是更新的 Slurm 才有的，WaitBreakdown 是我们自己的：认得，不列。
            found += [(field, field.width) for field in FIELDS.values() if field.name not in NEWER]
            continue
        match = _WORD.match(word)
        name = match[1].lower() if match else word.strip().lower()
        candidates = [name] if name in FIELDS else [key for key in FIELDS if key.startswith(name)]
        if match is None or not candidates:
            raise Fatal(f'Invalid field requested: "{match[1] if match else word.strip()}"')
        field = FIELDS[candidates[0]]
        # 写了 % 而没有数的是 0：什么也不显示（同 Slurm）。
        found.append((field, field.width if match[2] is None else int((match[2].strip("-") and match[2]) or 0)))
    return found


def lines(chosen: list[tuple[Field, int]], rows: Sequence[Row], parsed: Parsed) -> list[str]:
    """表头与各行；-P 用 | 相隔，-p 末尾还有 |。"""
    delimiter = parsed.last("delimiter", "|") or ""
    plain = next((key for key, _ in reversed(parsed.pairs) if key in ("parsable", "parsable2")), None)
    cells = Cells(rows)
    # 步的行、换了单位的，取值还看别的。
    alike = "allocations" in parsed and "units" not in parsed and "noconvert" not in parsed
    columns = [cells.of(field.value, (field.needs or "") if alike else "") for field, _ in chosen]
    if on_terminal():
        columns = [list(map(printable, texts)) for texts in columns]
    found: list[str] = []
    if plain:
        end = delimiter if plain == "parsable" else ""
        if "noheader" not in parsed:
            found.append(delimiter.join(field.name for field, _ in chosen) + end)
        return found + [delimiter.join(cells) + end for cells in zip(*columns, strict=True)]
    if "noheader" not in parsed:
        found.append("".join(_heading(field.name, width) + " " for field, width in chosen))
        found.append("".join("-" * abs(width) + " " for _, width in chosen))
    shown = [_padded(column, width) for column, (_, width) in zip(columns, chosen, strict=True)]
    return found + list(map("".join, zip(*shown, strict=True)))


def _padded(column: list[str], width: int) -> list[str]:
    """补齐、截断，后面空一格；一列里相同的值很多：一次就够，十万行才快。"""
    size, pad = abs(width), str.ljust if width < 0 else str.rjust
    if not size:
        return [" "] * len(column)
    # 太长的末尾改成 +（print_fields_str）。
    known = {
        text: pad(text if len(text) <= size else text[: size - 1] + "+", size) + " " for text in dict.fromkeys(column)
    }
    return list(map(known.__getitem__, column))


def _heading(name: str, width: int) -> str:
    """表头的一格：太长的截断；宽度为负是左对齐。"""
    size = abs(width)
    return name[:size].ljust(size) if width < 0 else name[:size].rjust(size)
