"""字段表（fields.txt）：一份值照哪一版写成 JSON，一个请求体照哪一版读。

写：只给知道的值，别的字段是那一版里“没有设置”的样子；那一版没有的字段不写，枚举里没有的词去掉。
读：不认识的字段记下来（slurmrestd 的 warnings），类型不对抛 BodyError。
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

OLDEST, NEWEST = 40, 44
VERSIONS = tuple(f"v0.0.{number}" for number in range(OLDEST, NEWEST + 1))
# 数值里的“不限”。
INFINITE = math.inf
_UNSET = {"set": False, "infinite": False, "number": 0}
_ENVELOPE = {"meta": "@openapi_meta", "errors": "[@openapi_error]", "warnings": "[@openapi_warning]"}

Values = Mapping[str, Any]


class BodyError(ValueError):
    """请求体里的一处不对；field 是它的路径。"""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


@dataclass(frozen=True, slots=True)
class Field:
    """一个字段；kind 是去掉方括号的类型。"""

    kind: str
    many: bool
    required: bool
    sparse: bool


def version_number(version: str) -> int:
    """v0.0.44 -> 44。"""
    return int(version.rpartition(".")[2])


def _covers(span: str, number: int) -> bool:
    first, _, last = span.partition("-")
    return span in ("", "*") or int(first) <= number <= int(last or first)


@cache
def _tables() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in (files(__package__) / "fields.txt").read_text("utf-8").splitlines():
        if line.startswith("#") or not line:
            continue
        if line.startswith(" "):
            rows.append(line.split())
        else:
            rows = found[line] = []
    return found


def _field(kind: str, *, sparse: bool = False) -> Field:
    required, kind = kind.endswith("!"), kind.rstrip("!")
    many = kind.startswith("[")
    return Field(kind.strip("[]"), many, required, sparse)


@cache
def fields_of(name: str, version: str) -> dict[str, Field]:
    """那一版的一张表；没有这张表抛 KeyError。"""
    number = version_number(version)
    found = {}
    for key, kind, *rest in _tables()[name]:
        span = next((word for word in rest if word != "~"), "")
        if _covers(span, number):
            found[key.replace("last_run", "last run") if name == "rollup_stats" else key] = _field(
                kind, sparse="~" in rest
            )
    if name.startswith("openapi_") and "_re" in name:
        found |= {key: _field(kind) for key, kind in _ENVELOPE.items()}
    return found


@cache
def words_of(name: str, version: str) -> tuple[str, ...]:
    """那一版的一个枚举的全部词。"""
    number = version_number(version)
    rows = (row for row in _tables()[f":{name}"] if _covers(row[0], number))
    return tuple("Not Set" if word == "Not_Set" else word for row in rows for word in row[1:])


def number(value: Any) -> Values:
    """{set, infinite, number}：None 没有设置，INFINITE 不限。"""
    if value is None:
        return _UNSET
    if isinstance(value, Mapping):
        return value
    if value == INFINITE:
        return {"set": False, "infinite": True, "number": 0}
    return {"set": True, "infinite": False, "number": int(value)}


def _real(value: Any) -> Values:
    found = number(value)
    return {**found, "number": float(value)} if found["set"] and not isinstance(value, Mapping) else found


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _same(value: Any) -> Any:
    return value


_PLAIN: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "str": (_text, ""),
    "bool": (bool, False),
    "i32": (lambda value: int(value or 0), 0),
    "i64": (lambda value: int(value or 0), 0),
    # JSON 里没有无穷大：写最大的数。
    "num": (lambda value: min(float(value or 0), sys.float_info.max), 0.0),
    "u32": (number, _UNSET),
    "u64": (number, _UNSET),
    "f64": (_real, _UNSET),
    "map": (lambda value: dict(value or {}), {}),
    "any": (_same, None),
}


@cache
def _writer(name: str, version: str) -> tuple[dict[str, Any], dict[str, Callable[[Any], Any]]]:
    """(全部没有设置的样子, 各字段怎么写)。"""
    blank: dict[str, Any] = {}
    convert: dict[str, Callable[[Any], Any]] = {}
    for key, field in fields_of(name, version).items():
        one, empty = _one(field.kind, version)
        convert[key] = _many(one, field.kind) if field.many else one
        if not field.sparse:
            blank[key] = [] if field.many else empty
    return blank, convert


def _one(kind: str, version: str) -> tuple[Callable[[Any], Any], Any]:
    if kind.startswith("@"):
        return (lambda value: render(kind[1:], version, value or {})), render(kind[1:], version, {})
    if kind.startswith(":"):
        words = frozenset(words_of(kind[1:], version))
        return (lambda value: value if value in words else None), ""
    return _PLAIN[kind]


def _many(one: Callable[[Any], Any], kind: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> list[Any]:
        found = [word for word in value.split(",") if word] if isinstance(value, str) else value or ()
        # 枚举里没有的词去掉：客户遇到一个不认识的，整个回答都不要。
        return [item for item in map(one, found) if item is not None or kind == "any"]

    return convert


def render(name: str, version: str, values: Values) -> dict[str, Any]:
    """照那一版的表写一份值；表里没有的键不要。"""
    blank, convert = _writer(name, version)
    found = dict(blank)
    for key, value in values.items():
        change = convert.get(key)
        if change is not None:
            found[key] = change(value)
    return found


def fill(name: str, version: str, values: Values) -> dict[str, Any]:
    """同 render，但别的表的值（@）已经写好了，原样放进去。"""
    blank, convert = _writer(name, version)
    table = fields_of(name, version)
    found = dict(blank)
    for key, value in values.items():
        if key in table:
            found[key] = value if table[key].kind.startswith("@") else convert[key](value)
    return found


def accept(name: str, version: str, body: Any, unknown: list[str], path: str = "") -> dict[str, Any]:
    """照那一版的表读一个请求体，写法放宽（数也收文字，列表也收逗号分隔的文字）；没有设置的、null 不在其中。

    不认识的字段的路径加进 unknown；类型不对抛 BodyError。
    """
    if not isinstance(body, Mapping):
        raise BodyError(path or "body", "expected an object")
    table = fields_of(name, version)
    found = {}
    for key, value in body.items():
        where = f"{path}.{key}" if path else str(key)
        field = table.get(key)
        if field is None:
            unknown.append(where)
        elif value is not None:
            read = _read_many(field, version, value, unknown, where) if field.many else None
            read = read if field.many else _read(field.kind, version, value, unknown, where)
            if read is not None:
                found[key] = read
    return found


def _read_many(field: Field, version: str, value: Any, unknown: list[str], where: str) -> list[Any]:
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(value, Mapping) and field.kind == "str":
        value = [f"{key}={item}" for key, item in value.items()]
    if not isinstance(value, list):
        raise BodyError(where, "expected a list")
    return [_read(field.kind, version, item, unknown, f"{where}[{index}]") for index, item in enumerate(value)]


def _read(kind: str, version: str, value: Any, unknown: list[str], where: str) -> Any:
    if kind.startswith("@"):
        return accept(kind[1:], version, value, unknown, where)
    if kind.startswith(":"):
        words = {word.upper(): word for word in words_of(kind[1:], version)}
        if not isinstance(value, str) or value.upper() not in words:
            raise BodyError(where, f"invalid value {str(value)[:64]!r}; one of {', '.join(words.values())}")
        return words[value.upper()]
    if kind in ("map", "any"):
        return value
    if kind == "bool":
        return _flag(value, where)
    value = _bare(value, where)
    if kind == "str":
        if isinstance(value, list):
            return ",".join(map(str, value))
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise BodyError(where, "expected a string")
        return None if value is None else str(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise BodyError(where, "expected a number")
    if kind in ("i32", "i64") and isinstance(value, str) and not value.lstrip("-").isdigit():
        raise BodyError(where, "expected an integer")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BodyError(where, "expected a finite number")
        value = int(value) if kind != "f64" and value.is_integer() else value
    return int(value) if kind in ("i32", "i64") and value is not None else value


def _flag(value: Any, where: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = value if isinstance(value, bool) else words.get(str(value).lower())
    if found is None:
        raise BodyError(where, "expected true or false")
    return found


def _bare(value: Any, where: str) -> Any:
    """{set, infinite, number} -> 数；没有设置是 None，不限是 UNLIMITED。"""
    if not isinstance(value, Mapping):
        return value
    extra = set(value) - {"set", "infinite", "number"}
    if extra:
        raise BodyError(where, f"unexpected key {sorted(map(str, extra))[0]!r}; only set, infinite, number")
    if not all(isinstance(value.get(key, False), bool) for key in ("set", "infinite")):
        raise BodyError(where, "set and infinite must be true or false")
    if value.get("infinite"):
        return "UNLIMITED"
    return value.get("number") if value.get("set", True) else None
