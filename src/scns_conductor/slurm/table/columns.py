"""列的格式：-o 的 %[.][宽]字母，-O 的 名字[:[.]宽[后缀]]，以及补齐与截断。"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.table.columnar import Columnar, Row, column
from scns_conductor.slurm.table.terminal_text import printable

_LETTER = re.compile(r"%([.#]*)(\d*)([A-Za-z])")
_FIELD = re.compile(r"^\s*([A-Za-z_-]+)\s*(?::([.-]?)(\d*)(.*))?$")
DEFAULT_FIELD_WIDTH = 20


class Field(NamedTuple):
    """一个能显示的值：表头、取值，以及取值要用到的 API 字段（空格相隔）；写了的，取值只看它们（见 Cells）。"""

    header: str
    value: Callable[[Row], str]
    needs: str = ""


Known = Mapping[str, Field]


class Column(NamedTuple):
    """一列：表头、取值；width 为 0 不补齐。literal 为真时 header 是原样打印的文字。"""

    header: str
    value: Callable[[Row], str] = lambda _row: ""
    width: int = 0
    right: bool = False
    suffix: str = ""
    literal: bool = False
    fit: bool = False
    needs: str = ""

    def show(self, text: str) -> str:
        """补齐、截断，加上后缀。"""
        return self.show_all([text])[0]

    def show_all(self, texts: list[str]) -> list[str]:
        """同 show，许多个。"""
        width, suffix = self.width, self.suffix
        if not "".join(texts).isprintable():
            texts = list(map(printable, texts))
        if not width:
            return [text + suffix for text in texts] if suffix else texts
        if self.right:
            return [text[:width].rjust(width) + suffix for text in texts]
        return [text[:width].ljust(width) + suffix for text in texts]


def letters(command: str, form: str, known: Known) -> list[Column]:
    """-o 的格式；字母之间的文字原样留下。不认识的字母照 Slurm 报错。"""
    columns: list[Column] = []
    position = 0
    if form.strip() == "%all":
        order = sorted(known, key=lambda letter: (letter.isupper(), letter))
        form = "|".join(f"%{letter}" for letter in order)
    for match in _LETTER.finditer(form):
        between = form[position : match.start()]
        position = match.end()
        if columns:
            columns[-1] = columns[-1]._replace(suffix=between)
        elif between:
            columns.append(Column(between, literal=True))
        if match[3] not in known:
            if command == "sinfo":
                raise Fatal(f"Invalid node format specification: {match[3]}", prefix=None)
            raise Fatal(f"Invalid job format specification: {match[3]}")
        header, value, needs = known[match[3]]
        columns.append(Column(header, value, int(match[2] or 0), "." in match[1], fit="#" in match[1], needs=needs))
    # 末尾单独的 % 不打印（同 Slurm）。
    rest = form[position:].removesuffix("%")
    if columns:
        columns[-1] = columns[-1]._replace(suffix=rest)
    elif rest:
        columns.append(Column(rest, literal=True))
    return columns


def fields(form: str, known: Known) -> list[Column]:
    """-O 的字段列表；缺省宽 20，冒号之后没有数的不补齐。名字不分大小写。"""
    columns: list[Column] = []
    for word in form.split(","):
        if not word.strip():
            continue
        match = _FIELD.match(word)
        name = match[1].lower() if match else ""
        if match is None or name not in known:
            raise Fatal(f"Invalid job format specification: {(match[1] if match else word).strip()}")
        header, value, needs = known[name]
        width = DEFAULT_FIELD_WIDTH if match[3] is None else int(match[3] or 0)
        columns.append(Column(header, value, width, match[2] == ".", match[4] or "", needs=needs))
    return columns


class Cells:
    """一张表各列的文字。取值只看 needs 里的字段，它们都相同的行只算一次：十万行才快；没有写 needs 的逐行算。"""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._values: dict[str, list[Any]] = {}
        self._distinct: dict[str, int] = {}

    def of(self, value: Callable[[Row], str], needs: str) -> list[str]:
        """这一列，自上而下。"""
        names, rows = needs.split(), self._rows
        try:
            varying = [name for name in names if self._count(name) > 1]
            if not (names and rows):
                return list(map(value, rows))
            base = {name: self._values[name][0] for name in names}
            if not varying:
                return [value(base)] * len(rows)
            columns = [self._values[name] for name in varying]
            keys: list[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
            # 各行大多不同的，逐行算不比查表慢。
            if 2 * max(map(self._distinct.__getitem__, varying)) < len(rows):
                known = {key: value(base | _fields(varying, key)) for key in dict.fromkeys(keys)}
                return list(map(known.__getitem__, keys))
            if isinstance(rows, Columnar):
                return list(_each(value, base, varying, columns))
        except (KeyError, TypeError):
            # 有的行没有这一项，或者是列表、对象。
            pass
        return list(map(value, rows))

    def _count(self, name: str) -> int:
        """这个字段有几种值。"""
        count = self._distinct.get(name)
        if count is None:
            values = self._values[name] = column(self._rows, name)
            count = self._distinct[name] = len(set(values))
        return count


def _each(
    value: Callable[[Row], str], base: dict[str, Any], names: Sequence[str], columns: Sequence[Sequence[Any]]
) -> Iterator[str]:
    """逐行的值；只有 names 里的字段各行不同，一行换一次，不另造对象。"""
    row = dict(base)
    if len(names) == 1:
        for row[names[0]] in columns[0]:
            yield value(row)
        return
    for values in zip(*columns, strict=True):
        row.update(zip(names, values, strict=True))
        yield value(row)


def _fields(names: Sequence[str], key: Any) -> dict[str, Any]:
    return {names[0]: key} if len(names) == 1 else dict(zip(names, key, strict=True))


def table(columns: Sequence[Column], rows: Sequence[Row], *, header: bool = True) -> list[str]:
    """各行的文字；fit 的列宽取内容里最长的（sinfo 的 %#P）。"""
    shown: list[list[str]] = []
    heads: list[str] = []
    cells = Cells(rows)
    for one in columns:
        if one.literal:
            heads.append(one.header + one.suffix)
            shown.append([heads[-1]] * len(rows))
            continue
        found = cells.of(one.value, one.needs)
        if one.fit:
            # sinfo.h 的 MIN_NODE_FIELD_SIZE、MIN_PART_FIELD_SIZE。
            one = one._replace(width=max([9, len(one.header), *map(len, found)]))
        heads.append(one.show(one.header))
        # 一列里相同的值很多（分区、用户、状态）：补齐一次就够，十万行才快。
        distinct = dict.fromkeys(found)
        known = dict(zip(distinct, one.show_all(list(distinct)), strict=True))
        shown.append(list(map(known.__getitem__, found)))
    return (["".join(heads)] if header else []) + list(map("".join, zip(*shown, strict=True)))


def used_letters(form: str) -> set[str]:
    """格式里用到的字母。"""
    return {match[3] for match in _LETTER.finditer(form)}
