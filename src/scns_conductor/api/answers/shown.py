"""由模型造出回答的说明，挂到端点上。"""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, Field, GetJsonSchemaHandler, TypeAdapter, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from sqlmodel import SQLModel

from scns_conductor.api.derived import not_none
from scns_conductor.core.models import unit_of


class Shown:
    """端点回答的是普通的 dict（直接序列化，不逐个造对象），接口的说明里写 model。"""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """放在 list 里取出来的是引用，字段就只写一遍。"""
        return dict(handler(TypeAdapter(list[self.model]).core_schema)["items"])  # type: ignore[name-defined]


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
