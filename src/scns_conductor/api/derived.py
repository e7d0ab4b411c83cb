"""请求的字段由数据表的模型而来：含义、单位、长度与范围只写在 core/models 里，这里只加写法。"""

import re
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen
from pydantic import AliasChoices, BeforeValidator, Field
from pydantic.fields import FieldInfo
from sqlmodel import SQLModel

from scns_conductor.api.field_forms import MAX_INT, Flag, Instant, Memory, Name, Text, TimeLimit, number_object
from scns_conductor.core.models import unit_of

# 单位 -> 写法里代替它的话。
_WRITTEN = {"MiB": "如 16G，数字按 MiB", "分钟": "分钟数，或 MM:SS、HH:MM:SS、D-HH:MM:SS、UNLIMITED"}
# 自己已经含有 None 的写法。
_WITH_NONE = (Instant, Memory, TimeLimit)
_INSTANTS = "：ISO 8601、Unix 秒、now+1hour 等"


@dataclass(frozen=True, slots=True)
class Form:
    """一个字段在请求里的写法：类型，说明之后接的话，各种名字（第一个写进接口的说明）；

    unit 是数字的单位，与列的不同才写。"""

    annotation: Any
    how: str = ""
    unit: str | None = None
    aliases: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()
    # 与列的含义不同的（如 hold）才写。
    description: str | None = None


def form_of(model: type[SQLModel], name: str) -> Form:
    """由列的类型、单位与长度推出的写法；推不出的抛 TypeError，要在 forms 里写明。"""
    info = model.model_fields[name]
    kind = not_none(info.annotation)
    bounds = {type(each): each for each in info.metadata}
    if kind is bool:
        return Form(Flag)
    if kind is datetime:
        return Form(Instant, how=_INSTANTS)
    if kind == list[str]:
        return Form(list[Name])
    if kind is str:
        return Form(Name if MaxLen in bounds else Text)
    if kind is int and unit_of(info.description) == "MiB":
        return Form(Memory)
    if kind is int and name.startswith(("time_", "max_time", "default_time")):
        # 时限照 Slurm：数字是分钟。
        return Form(TimeLimit, unit="分钟", examples=("120",) if name == "time_limit" else ())
    if kind is int:
        least = bounds[Ge].ge if Ge in bounds else 1
        most = bounds[Le].le if Le in bounds else MAX_INT
        return Form(Annotated[int, Field(ge=least, le=most), BeforeValidator(number_object)])
    raise TypeError(f"{model.__name__}.{name} 的写法推不出来；在 forms 里写明")


def request_fields(model: type[SQLModel], forms: Mapping[str, Form], *, omit: Collection[str] = ()) -> dict[str, Any]:
    """create_model 的字段：model 的各个字段（omit 除外）都可以不写，不写是 None。"""
    return {name: _field(model, name, forms.get(name)) for name in model.model_fields if name not in omit}


def not_none(annotation: Any) -> Any:
    """X | None -> X。"""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        left = [each for each in typing.get_args(annotation) if each is not type(None)]
        return left[0] if len(left) == 1 else annotation
    return annotation


def _field(model: type[SQLModel], name: str, form: Form | None) -> tuple[Any, FieldInfo]:
    form = form or form_of(model, name)
    given = model.model_fields[name].description
    unit = form.unit or unit_of(given)
    text = form.description or f"{given}{form.how}"
    if unit in _WRITTEN:
        text = re.sub(rf"（{unit_of(given)}", f"（{_WRITTEN[unit]}", text)
    options: dict[str, Any] = {"description": text}
    if form.examples:
        options["examples"] = list(form.examples)
    if form.aliases:
        options["validation_alias"] = AliasChoices(*form.aliases)
    if unit:
        options["json_schema_extra"] = {"x-unit": unit}
    written = form.annotation if form.annotation in _WITH_NONE else form.annotation | None
    return written, Field(None, **options)
