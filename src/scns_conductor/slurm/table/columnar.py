"""一列一列放着的行：十万行时，取一列、看一列是不是都相同都不必逐行去翻，也不为每行造一个对象。"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar, cast, overload

Row = Mapping[str, Any]
R = TypeVar("R", bound=Row)


class Columnar(Sequence[Row]):
    """行的字段 → 自上而下的值。当作行的列表用也行，那时才造出一行。"""

    def __init__(self, columns: Mapping[str, list[Any]], order: list[int] | None = None) -> None:
        self._columns = columns
        self._order = order
        self._length = len(next(iter(columns.values()), ()) if order is None else order)

    @classmethod
    def gathered(cls, pages: Iterable[Mapping[str, Sequence[Any]]]) -> "Columnar":
        """几页的接起来；各页的字段相同。"""
        columns: dict[str, list[Any]] = {}
        for page in pages:
            for name, values in page.items():
                columns.setdefault(name, []).extend(values)
        return cls(columns)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(self._length))]
        if not -self._length <= at < self._length:
            raise IndexError(at)
        place = at if self._order is None else self._order[at]
        return {name: values[place] for name, values in self._columns.items()}

    def column(self, name: str) -> list[Any]:
        """一列的值；没有这一列抛 KeyError。一页也没有的，哪一列都是空的。"""
        if not self._columns:
            return []
        values = self._columns[name]
        if self._order is None or not values:
            return values
        if values.count(values[0]) == len(values):
            return [values[0]] * len(self._order)
        return list(map(values.__getitem__, self._order))

    def ordered(self, order: list[int]) -> "Columnar":
        """照 order（各行现在的位置）排；不在其中的不要。"""
        return Columnar(self._columns, order if self._order is None else [self._order[at] for at in order])


def column(rows: Sequence[Row], name: str) -> list[Any]:
    """一列的值；有的行没有抛 KeyError。"""
    return rows.column(name) if isinstance(rows, Columnar) else list(map(itemgetter(name), rows))


def ordered(rows: Sequence[R], order: list[int]) -> Sequence[R]:
    """照 order 排，不在其中的不要；本来就是这个次序的原样返回。"""
    if order == list(range(len(rows))):
        return rows
    if isinstance(rows, Columnar):
        return cast("Sequence[R]", rows.ordered(order))
    return [rows[at] for at in order]


def once(rows: Sequence[R], name: str) -> Sequence[R]:
    """这个字段相同的只留最先的一行：分几次问的，其间变了的几次都在。"""
    values = column(rows, name)
    if len(set(values)) == len(values):
        return rows
    first: dict[Any, int] = {}
    for at, value in enumerate(values):
        first.setdefault(value, at)
    return ordered(rows, list(first.values()))
