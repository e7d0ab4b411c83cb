"""由模型造出回答的说明，挂到端点上。"""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import sqlalchemy as sa
from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from sqlmodel import SQLModel

from scns_conductor.api.derived import not_none
from scns_conductor.core.answers.writing import PLAIN
from scns_conductor.core.models import unit_of


class Shown:
    """端点回答的是普通的 dict（直接序列化，不逐个造对象），接口的说明里写 model。"""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """声明的是哪种回答都一样：类型已经由 mypy 核对过。"""
        return handler.generate_schema(dict[str, Any])

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """放在 list 里取出来的是引用，字段就只写一遍。"""
        return dict(handler(TypeAdapter(list[self.model]).core_schema)["items"])  # type: ignore[name-defined]


@cache
def described(shape: type) -> type[BaseModel]:
    """core/answers 里写下的一种回答（TypedDict）的说明：字段、类型、含义都取自它，里面的回答也换成各自的说明。"""
    fields = {}
    for name, hint in get_type_hints(shape, include_extras=True).items():
        inner = get_args(hint)[0] if get_origin(hint) is NotRequired else hint
        kind, description, *marks = get_args(inner)
        found = _described_inside(kind, plain=PLAIN in marks)
        fields[name] = field(found, description, always=inner is hint)
    return answer(shape.__name__, shape.__doc__ or shape.__name__, fields)


def _described_inside(kind: Any, *, plain: bool) -> Any:
    if is_typeddict(kind):
        return dict[str, Any] if plain else described(kind)
    parts = tuple(
        _described_inside(each, plain=plain) for each in get_args(kind) if not (str is each and _is_moment(kind))
    )
    if not parts:
        return kind
    if isinstance(kind, UnionType):
        return reduce(or_, parts)
    return get_origin(kind)[parts]


def _is_moment(kind: Any) -> bool:
    """时刻写成文字，说明里是 date-time。"""
    return isinstance(kind, UnionType) and datetime in get_args(kind)


def field(annotation: Any, description: str, *, always: bool = True) -> tuple[Any, FieldInfo]:
    """一个字段；always 为假的不一定有。单位写在 description 的括号里。"""
    unit = unit_of(description)
    options: dict[str, Any] = {"description": description}
    if unit:
        options["json_schema_extra"] = {"x-unit": unit}
    if not always:
        # 缺省值写成函数就不进说明：没有这个字段，不等于它是 null。
        options["default_factory"] = _absent
    return annotation, Field(**options)


def row_of(
    model: type[SQLModel],
    name: str,
    *,
    omit: Collection[str] = (),
    changed: Mapping[str, tuple[Any, str | None]] | None = None,
    added: Mapping[str, tuple[Any, FieldInfo]] | None = None,
    always: Collection[str] | None = None,
) -> type[BaseModel]:
    """一行的说明：model 的各列（omit 除外）。

    changed 是类型或说明不同的，added 是另加的；always 是一定有的，缺省全部。
    """
    columns = sa.inspect(model).columns
    fields: dict[str, Any] = {}
    for column, info in model.model_fields.items():
        if column in omit:
            continue
        kind = info.annotation if columns[column].nullable else not_none(info.annotation)
        kind, text = (changed or {}).get(column, (kind, None))
        fields[column] = field(kind, text or str(info.description), always=always is None or column in always)
    return answer(name, model.__doc__ or name, {**fields, **(added or {})})


def answer(name: str, doc: str, fields: Mapping[str, tuple[Any, FieldInfo]]) -> type[BaseModel]:
    """一种回答的说明。"""
    found: type[BaseModel] = create_model(name, __doc__=doc, **fields)  # type: ignore[call-overload]
    return found


def page_of(name: str, key: str, row: type[BaseModel], description: str) -> type[BaseModel]:
    """{key: [row, …]}。"""
    return answer(name, description, {key: field(list[row], description)})  # type: ignore[valid-type]


def _absent() -> None:
    return None
