"""回答的类型的基类：冻结的 dataclass，由 JSON 造出；新版服务器多给的字段留着，不拒绝。"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Self

Convert = Callable[[Any], Any]


class Answer:
    """各种回答的基类。

    回答里没有的字段（如用 fields 挑过的）不是 None：读它抛 AttributeError。
    unknown 是这个版本的客户端还不认识的字段，原样。
    """

    __slots__ = ("_json",)

    # 字段 -> 怎样由 JSON 的值换算；不在其中的照原样。
    _convert: ClassVar[Mapping[str, Convert]] = {}
    _json: Mapping[str, Any]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """由 API 的 JSON 对象造出。"""
        made = cls.__new__(cls)
        put = object.__setattr__
        put(made, "_json", MappingProxyType(dict(found)))
        known, convert = cls.__dataclass_fields__, cls._convert  # type: ignore[attr-defined]
        for name, value in found.items():
            if name in known:
                put(made, name, convert[name](value) if value is not None and name in convert else value)
        return made

    @property
    def json(self) -> Mapping[str, Any]:
        """API 给的 JSON，原样。"""
        # 不是由 from_json 造出的（自己写的）没有原样的 JSON：由字段拼出。
        found: Mapping[str, Any] | None = getattr(self, "_json", None)
        if found is None:
            names = type(self).__dataclass_fields__  # type: ignore[attr-defined]
            found = {name: getattr(self, name) for name in names if hasattr(self, name) and name != "_convert"}
        return found

    @property
    def unknown(self) -> dict[str, Any]:
        """不认识的字段。"""
        known = type(self).__dataclass_fields__  # type: ignore[attr-defined]
        return {name: value for name, value in self.json.items() if name not in known}

    def __reduce__(self) -> tuple[Convert, tuple[dict[str, Any]]]:
        return type(self).from_json, (dict(self.json),)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and dict(other.json) == dict(self.json)

    def __hash__(self) -> int:
        return hash(repr(sorted(self.json.items())))

    def _repr_html_(self) -> str:
        # 只在笔记本里用到。
        from scns_conductor.client.html import answer_html

        return answer_html(self)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.json.items() if value not in (None, [], {}))
        return f"{type(self).__name__}({shown})"


def instant(value: str) -> datetime:
    """ISO 8601 -> 带时区的时刻。"""
    return datetime.fromisoformat(value)


def one_of(kind: type[Answer]) -> Convert:
    """JSON 对象 -> kind。"""
    return kind.from_json


def many_of(kind: type[Answer]) -> Convert:
    """JSON 数组 -> kind 的元组。"""

    def convert(values: Any) -> tuple[Answer, ...]:
        return tuple(kind.from_json(value) for value in values)

    return convert
