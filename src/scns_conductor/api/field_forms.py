"""请求里各种量的写法：slurmrestd 的数值对象、内存、时限、时刻、节点列表、名字；校验后是列的值。"""

import math
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.config import JsonDict

from scns_conductor.core.hostlist import check_hostlist
from scns_conductor.core.instants import local_now, parse_instant
from scns_conductor.core.models import MAX_NAME_LENGTH
from scns_conductor.core.units import parse_memory_mb, parse_time_limit

MAX_TEXT_LENGTH = 4096
MAX_INT = 2**31 - 1
# 发信号的写法；有没有这个信号由校验说。
SIGNAL_PATTERN = r"^[A-Za-z0-9+]{1,15}$"


def _not_flag(value: Any) -> Any:
    """true 不是 1：接口的说明里是整数。"""
    if isinstance(value, bool):
        raise ValueError("必须是整数")  # noqa: TRY004 - pydantic 只认 ValueError
    return value


def not_number(value: Any) -> Any:
    """1 不是 true。"""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("必须是 true 或 false")  # noqa: TRY004
    return value


NOT_FLAG = BeforeValidator(_not_flag)
Flag = Annotated[bool, BeforeValidator(not_number)]


def number_object(value: Any) -> Any:
    """slurmrestd 的数值对象 {"set": true, "infinite": false, "number": 4}。"""
    if not isinstance(value, dict):
        return _not_flag(value)
    if unknown := set(value) - {"set", "infinite", "number"}:
        raise ValueError(f"数值对象里有不认识的键 {sorted(unknown)[0]!r}；只有 set、infinite、number")
    number = value.get("number")
    if not all(isinstance(value.get(name, False), bool) for name in ("set", "infinite")):
        raise ValueError("数值对象的 set、infinite 必须是 true 或 false")
    if isinstance(number, bool) or not isinstance(number, int | float | None):
        raise ValueError("数值对象的 number 必须是数")  # noqa: TRY004
    if value.get("infinite"):
        return "UNLIMITED"
    return value.get("number") if value.get("set", True) else None


def _converted(convert: Callable[[Any], Any]) -> BeforeValidator:
    def apply(value: Any) -> Any:
        value = number_object(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("必须是文字或数")  # noqa: TRY004 - pydantic 只认 ValueError
        # JSON 的 1e400 读成无穷大。
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("必须是有限的数")
        return convert(value)

    return BeforeValidator(apply)


def joined(value: Any) -> Any:
    """可以是文字，也可以是 slurmrestd 的字符串数组。"""
    text = ",".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
    return text or None


def _absolute(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("必须是绝对路径，例如 /home/alice/bundle")
    return text


def one_container(bundle: str | None, image: str | None) -> None:
    """目录与镜像只能写一个；都写了抛 ValueError。"""
    if bundle and image:
        raise ValueError("container 与 container_image 只能写一个")


def _node_list(text: str) -> str:
    check_hostlist(text)
    return text


_NUMBER_OBJECT: JsonDict = {
    "type": "object",
    "properties": {
        "set": {"type": "boolean"},
        "infinite": {"type": "boolean"},
        "number": {"type": ["number", "null"]},
    },
    "additionalProperties": False,
}


def _schema(*forms: JsonDict) -> JsonDict:
    return {"anyOf": [*forms, _NUMBER_OBJECT, {"type": "null"}]}


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
# OCI 的目录。
Bundle = Annotated[
    str, Field(max_length=MAX_TEXT_LENGTH, json_schema_extra={"pattern": "^(/.*)?$"}), AfterValidator(_absolute)
]
PositiveInt = Annotated[int, Field(ge=1, le=MAX_INT), BeforeValidator(number_object)]
NodeList = Annotated[str, Field(max_length=MAX_TEXT_LENGTH), BeforeValidator(joined), AfterValidator(_node_list)]
# JSON Schema 里的写法：能写成模式的写成模式，其余的（主机列表、时刻）由校验说。
_TIME_TEXT = r"^\s*(UNLIMITED|INFINITE|-1|([0-9]{1,12}-)?[0-9]{1,12}(:[0-9]{1,12}){0,2})\s*$"
_MEMORY_TEXT = r"^\s*[0-9]{1,30}(\.[0-9]+)?\s*([KMGTPkmgtp]?([Ii]?[Bb])?)\s*$"
TimeLimit = Annotated[
    int | None,
    _converted(lambda value: parse_time_limit(int(value) if isinstance(value, float) else value)),
    Field(json_schema_extra=_schema({"type": "string", "pattern": _TIME_TEXT}, {"type": "number", "minimum": 1})),
]
Memory = Annotated[
    int | None,
    _converted(parse_memory_mb),
    Field(json_schema_extra=_schema({"type": "string", "pattern": _MEMORY_TEXT}, {"type": "number", "minimum": 0})),
]
Instant = Annotated[
    datetime | None,
    _converted(lambda value: parse_instant(value, local_now())),
    Field(json_schema_extra=_schema({"type": "string", "minLength": 1}, {"type": "number", "minimum": 0})),
]
