"""cluster.yaml 里写得到的东西：各节的对象、它们的各列与缺省值。纯的值，计划与导出共用。"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scns_conductor.core.accounting import NORMAL_QOS, ROOT_ACCOUNT
from scns_conductor.core.models import LimitColumns, Partition, Qos
from scns_conductor.services.accounts import ACCOUNT_COLUMNS, own_columns
from scns_conductor.statements.accounts import ASSOCIATION_DEFAULTS

Key = tuple[str, ...]
Values = dict[str, Any]

# 各节的名字，也是新建、修改的次序：后面的提到前面的。删除的次序相反。
SECTIONS = ("settings", "nodes", "qos", "accounts", "associations", "users", "partitions", "reservations")
NODE_TRAITS = ("features", "weight", "topology")


@dataclass(frozen=True, slots=True)
class Entry:
    """文件里的一个对象：在哪里（accounts[3]）、它的键、写了的各列。"""

    place: str
    key: Key
    values: Mapping[str, Any]


Content = Mapping[str, Sequence[Entry]]
# 节 -> 键 -> 各列。
State = Mapping[str, Mapping[Key, Values]]


def _defaults(model: Any, *omit: str) -> Values:
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if name not in omit
    }


_PARTITION = _defaults(Partition, "name")
_QOS = _defaults(Qos, "name")
_LIMITS = {name: value for name, value in ASSOCIATION_DEFAULTS.items() if name not in ("user_name", "partition")}
_RESERVATION: Values = {
    "users": [],
    "accounts": [],
    "groups": [],
    "flags": [],
    **dict.fromkeys(("partition", "licenses", "comment", "node_cpus")),
}


def _account(key: Key, values: Mapping[str, Any]) -> Values:
    if key == (ROOT_ACCOUNT,):
        # 根没有上级；别的照新装的系统。
        return {
            **_LIMITS,
            "coordinators": [],
            "description": "default root account",
            "organization": ROOT_ACCOUNT,
            "qos": [NORMAL_QOS],
        }
    return {**own_columns(key[0], values), **_LIMITS, "coordinators": []}


def _qos(key: Key, _values: Mapping[str, Any]) -> Values:
    return _QOS if key == (NORMAL_QOS,) else {**_QOS, "description": key[0]}


_SECTION_DEFAULTS: dict[str, Callable[[Key, Mapping[str, Any]], Values]] = {
    # 没有写的不动：特性与权重由节点自己登记，缺省账户由第一个关联定。
    "settings": lambda _key, _values: {},
    "nodes": lambda _key, _values: {},
    "users": lambda _key, _values: {"admin_level": "None"},
    "qos": _qos,
    "accounts": _account,
    "associations": lambda _key, _values: _LIMITS,
    "partitions": lambda _key, _values: _PARTITION,
    "reservations": lambda _key, _values: _RESERVATION,
}


def whole(section: str, key: Key, values: Mapping[str, Any]) -> Values:
    """文件里的一个对象就是它的全部：没有写的列取缺省值。"""
    return {**_SECTION_DEFAULTS[section](key, values), **values}


def written(section: str, key: Key, values: Mapping[str, Any]) -> Values:
    """反过来：与缺省值不同、要写进文件的列。"""
    defaults = _SECTION_DEFAULTS[section](key, {"parent": values.get("parent")})
    if "parent" in defaults:
        # 账户的单位没有写时由上级来，上级自己没有写时是根。
        defaults = {**defaults, "parent": ROOT_ACCOUNT}
    return {name: value for name, value in values.items() if name not in defaults or defaults[name] != value}


def is_built_in(section: str, key: Key) -> bool:
    """系统自带、不能删的。"""
    return (section, key) in {("accounts", (ROOT_ACCOUNT,)), ("qos", (NORMAL_QOS,))}


def shown(key: Key) -> str:
    """键的写法：名字，或 账户/用户[/分区]。"""
    return "/".join(part for part in key if part)


# 各节比较哪些列。
COMPARED: dict[str, tuple[str, ...]] = {
    "nodes": NODE_TRAITS,
    "qos": tuple(_QOS),
    "accounts": (*ACCOUNT_COLUMNS, *_LIMITS, "coordinators"),
    "associations": tuple(_LIMITS),
    "users": ("admin_level", "default_account"),
    "partitions": tuple(_PARTITION),
    "reservations": ("start_time", "end_time", "nodes", *_RESERVATION),
}
TRES_COLUMNS = frozenset(name for name in (*LimitColumns.model_fields, *_QOS) if "tres" in name)
