"""报文的记录：类里写下名字与类型，就有了 __init__、相等、与 JSON 映射的互换，以及与上一版的对照。

同 dataclass(slots=True, kw_only=True)，只是更轻：dataclasses 带进来的模块要多占 1.6 MiB，牧守进程要小。
类型查最外层（int、str、dict……）与 list[int]、list[str] 的元素；元素是记录的（list[RunningStep]）逐个还原。
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_):
        """只给类型检查器看。"""
        return lambda decorated: decorated


# 现在这一版，与仍听得懂、说得出的最早一版。
PROTOCOL_VERSION = 2
OLDEST_VERSION = 1


class RecordError(ValueError):
    """报文缺项、类型不对，或有不许有的项。"""


_MISSING: Any = object()
_KINDS = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict, "None": type(None)}


@dataclass_transform(kw_only_default=True)
class _RecordType(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _RecordType:
        if not bases:
            return super().__new__(mcs, name, bases, {**namespace, "__slots__": ()})
        written: dict[str, str] = namespace.get("__annotations__", {})
        fields = {field: kind for field, kind in written.items() if not kind.startswith("ClassVar")}
        defaults = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace["__slots__"] = tuple(fields)
        namespace["__init__"] = _initializer(fields, defaults, checks="check" in namespace)
        made = super().__new__(mcs, name, bases, namespace)
        known = vars(sys.modules[made.__module__])
        made._fields = tuple(_field(field, kind, defaults, known) for field, kind in fields.items())
        made._names = frozenset(fields)
        made._read = _reader(made)
        made._write = _writer(made)
        made._new_names = {old: new for new, old in namespace.get("old_names", {}).items()}
        return made

    if TYPE_CHECKING:
        # （名字，缺省值，许可的类型，里面的记录，是不是一列记录，一列里元素的类型）。
        _fields: tuple[tuple[str, Any, tuple[type, ...], type[Record] | None, bool, type | None], ...]
        _names: frozenset[str]
        _new_names: dict[str, str]
        _read: Callable[..., Any]
        _write: Callable[..., dict[str, object]]


class Record(metaclass=_RecordType):
    """old_names 是上一版里叫法不同的：现在的名字 -> 从前的；closed 的不许有不认识的项。"""

    old_names: ClassVar[dict[str, str]] = {}
    closed: ClassVar[bool] = False
    # 上一版没有的：没有写（None）就不送给它。
    added: ClassVar[frozenset[str]] = frozenset()

    def to_wire(self, version: int = PROTOCOL_VERSION) -> dict[str, object]:
        """可直接写成 JSON 的映射。缺省就是 None 的空项略去；给第 1 版的都写上，它不会自己补。"""
        if version != 1:
            wire: dict[str, object] = type(self)._write(self, version)
            return wire
        old_names = self.old_names
        values = ((field[0], getattr(self, field[0])) for field in type(self)._fields)
        return {
            old_names.get(name, name): _plain(value, 1)
            for name, value in values
            if value is not None or name not in self.added
        }

    @classmethod
    def from_wire(cls, wire: object, version: int = PROTOCOL_VERSION) -> Self:
        """JSON 映射 -> 记录；不认识的项略过（对方也许比这里新），缺项、类型不对抛 RecordError（中文原因）。"""
        if not isinstance(wire, dict):
            raise RecordError(f"{cls.__name__} 必须是映射，现在是 {type(wire).__name__}")
        if version == 1 and cls._new_names:
            wire = {cls._new_names.get(name, name): value for name, value in wire.items()}
        if cls.closed:
            strange = wire.keys() - cls._names
            if strange:
                raise RecordError(f"不认识的项：{'、'.join(sorted(map(str, strange)))}")
        made: Self = cls._read(wire, version)
        return made

    def update_from_wire(self, wire: dict[str, object], version: int = PROTOCOL_VERSION) -> None:
        """把对方写来的这几项改过来；不认识的略过，类型不对抛 RecordError。"""
        new_names = type(self)._new_names if version == 1 else {}
        given = {new_names.get(name, name): value for name, value in wire.items()}
        for name, _, kinds, *_ in type(self)._fields:
            if name in given:
                if not isinstance(given[name], kinds):
                    raise RecordError(f"{type(self).__name__} 的 {name} 不能是 {type(given[name]).__name__}")
                setattr(self, name, given[name])

    def replace(self, **changes: Any) -> Self:
        """改了这几项的另一份。"""
        return type(self)(**{field[0]: getattr(self, field[0]) for field in type(self)._fields} | changes)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field[0]) == getattr(other, field[0]) for field in type(self)._fields)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told = ", ".join(f"{field[0]}={getattr(self, field[0])!r}" for field in type(self)._fields)
        return f"{type(self).__name__}({told})"


def _plain(value: Any, version: int) -> Any:
    """记录、一列记录写成映射；别的照旧。"""
    if isinstance(value, Record):
        return value.to_wire(version)
    if isinstance(value, list):
        return [each.to_wire(version) if isinstance(each, Record) else each for each in value]
    return value


def _writer(made: _RecordType) -> Callable[..., dict[str, object]]:
    """写出写成映射的源码来编译：总要写的一次写下，可以是 None 的有了才写。"""
    always = [field for field in made._fields if field[3] is None and field[1] is not None]
    sometimes = [field for field in made._fields if field not in always]
    lines = ["def write(self, version):"]
    lines.append("    wire = {" + ", ".join(f"{field[0]!r}: self.{field[0]}" for field in always) + "}")
    for name, default, _, inner, _, _ in sometimes:
        lines.append(f"    v = self.{name}")
        lines.append("    if v is not None:" if default is None else "    if True:")
        lines.append(f"        wire[{name!r}] = {'v' if inner is None else '_plain(v, version)'}")
    lines.append("    return wire")
    written: dict[str, Any] = {}
    exec("\n".join(lines), {"_plain": _plain}, written)
    return written["write"]  # type: ignore[no-any-return]


def _reader(made: _RecordType) -> Callable[[dict[str, object], int], Any]:
    """写出还原的源码来编译：平常的项一次取、一次比较，只有不平常的才去细看。"""
    known: dict[str, Any] = {
        "_made": made,
        "_new": object.__new__,
        "_check": lambda place, value, version: _check(made, place, value, version),
    }
    lines = ["def read(wire, version):", "    get, self = wire.get, _new(_made)"]
    for place, (name, default, kinds, inner, _, element) in enumerate(made._fields):
        exact = next((kind for kind in reversed(kinds) if kind is not type(None)), object)
        known |= {f"_d{place}": default, f"_k{place}": exact}
        plain = inner is None and element is None
        unusual = ["v is not None"] if type(None) in kinds else []
        unusual += [f"v.__class__ is not _k{place}"] if plain else []
        lines.append(f"    v = get({name!r}, _d{place})")
        lines.append(f"    if {' and '.join(unusual) or 'True'}:")
        lines.append(f"        v = _check({place}, v, version)")
        lines.append(f"    self.{name} = v")
    lines += ["    self.check()"] if hasattr(made, "check") else []
    lines.append("    return self")
    written: dict[str, Any] = {}
    exec("\n".join(lines), known, written)
    read: Callable[[dict[str, object], int], Any] = written["read"]
    return read


def _check(made: _RecordType, place: int, value: Any, version: int) -> Any:
    """一项的核对与还原；缺项、类型不对抛 RecordError。"""
    name, _, kinds, inner, many, element = made._fields[place]
    if value is _MISSING:
        raise RecordError(f"{made.__name__} 缺少 {name}")
    fits = isinstance(value, kinds)
    if not fits:
        raise RecordError(f"{made.__name__} 的 {name} 不能是 {type(value).__name__}")
    if element is not None and not _all_are(element, value):
        raise RecordError(f"{made.__name__} 的 {name} 里有不是 {element.__name__} 的")
    if inner is None or value is None:
        return value
    return [inner.from_wire(each, version) for each in value] if many else inner.from_wire(value, version)


def _all_are(element: type, values: Any) -> bool:
    return all(type(each) is element for each in values)


def _initializer(fields: dict[str, str], defaults: dict[str, Any], *, checks: bool) -> Any:
    """写出 __init__ 的源码来编译，同 dataclasses 的做法：比逐项 setattr 快几倍。有 check 方法的末尾执行它。"""
    if not fields:
        return lambda self: None
    given = ", ".join(f"{name}=_defaults[{name!r}]" if name in defaults else name for name in fields)
    lines = [f"def __init__(self, *, {given}):", *(f"    self.{name} = {name}" for name in fields)]
    if checks:
        lines.append("    self.check()")
    made: dict[str, Any] = {}
    exec("\n".join(lines), {"_defaults": defaults}, made)
    return made["__init__"]


def _field(name: str, kind: str, defaults: dict[str, Any], known: dict[str, Any]) -> tuple[Any, ...]:
    """一项的类型 -> 怎样核对、怎样还原。"""
    kinds: list[type] = []
    inner: Any = None
    many, item = False, None
    for each in _alternatives(kind):
        head, _, rest = each.partition("[")
        element = known.get(rest.removesuffix("]"))
        if head == "list" and isinstance(element, _RecordType):
            inner, many = element, True
            kinds.append(list)
        elif isinstance(known.get(head), _RecordType):
            inner = known[head]
            kinds.append(dict)
        elif head == "Any":
            kinds.append(object)
        else:
            allowed: Any = _KINDS[head]
            if head == "list" and rest in ("int]", "str]"):
                item = int if rest == "int]" else str
            kinds.extend(allowed if isinstance(allowed, tuple) else (allowed,))
    default = defaults.get(name, _MISSING)
    return name, default, tuple(kinds), inner, many, item


def _alternatives(kind: str) -> list[str]:
    """'dict[str, str | None] | None' -> ['dict[str, str | None]', 'None']。"""
    found, depth, start = [], 0, 0
    for place, char in enumerate(kind):
        depth += (char == "[") - (char == "]")
        if char == "|" and depth == 0:
            found.append(kind[start:place].strip())
            start = place + 1
    return [*found, kind[start:].strip()]
