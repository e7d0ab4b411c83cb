"""公开的客户端（由 slurmrestd 的 OpenAPI 文档生成）里的模型：逐个字段与我们的字段表比。"""

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from scns_conductor.slurm.shapes.schema import Field, fields_of, words_of

_WRAPPER = {"set", "infinite", "number"}
# 类型 -> 字段表里的写法；整数的 32 与 64 位在这些模型里分不出来。
_KINDS = {"StrictStr": {"str"}, "StrictInt": {"i32", "i64"}, "StrictBool": {"bool"}, "StrictFloat": {"num"}}


def differences(model: type[BaseModel], name: str, version: str, seen: set[str] | None = None) -> Iterator[str]:
    """model 与我们的表 name 的不同之处，连同它引用的。"""
    seen = set() if seen is None else seen
    if name in seen:
        return
    seen.add(name)
    ours = fields_of(name, version)
    theirs = {field.alias or key: (key, field) for key, field in model.model_fields.items()}
    for key in sorted(ours.keys() - theirs.keys()):
        yield f"{name}.{key}: 公开的模型里没有"
    for key in sorted(theirs.keys() - ours.keys()):
        yield f"{name}.{key}: 字段表里没有"
    for key in sorted(ours.keys() & theirs.keys()):
        attribute, field = theirs[key]
        if field.is_required() != ours[key].required:
            yield f"{name}.{key}: 必有不同（公开的是 {field.is_required()}）"
        yield from _field(model, attribute, field.annotation, ours[key], f"{name}.{key}", version, seen)


def _parts(annotation: Any) -> list[Any]:
    """Optional、Annotated、Union 剥开之后的各种可能。"""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return [part for each in typing.get_args(annotation) for part in _parts(each) if part is not type(None)]
    if origin is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    return [annotation]


def _field(
    model: type[BaseModel], attribute: str, annotation: Any, ours: Field, where: str, version: str, seen: set[str]
) -> Iterator[str]:
    parts = _parts(annotation)
    many = len(parts) == 1 and typing.get_origin(parts[0]) is list
    if many != ours.many:
        yield f"{where}: 列表不同（公开的是 {many}）"
        return
    if many:
        parts = _parts(typing.get_args(parts[0])[0])
    inner = next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)
    if inner is not None:
        names = {field.alias or key for key, field in inner.model_fields.items()}
        if names == _WRAPPER:
            if ours.kind not in ("u32", "u64", "f64"):
                yield f"{where}: 应是数值对象，字段表里是 {ours.kind}"
        elif ours.kind.startswith("@"):
            yield from differences(inner, ours.kind[1:], version, seen)
        else:
            yield f"{where}: 应是对象，字段表里是 {ours.kind}"
        return
    yield from _leaf(model, attribute, parts, ours, where, version)


def _leaf(
    model: type[BaseModel], attribute: str, parts: list[Any], ours: Field, where: str, version: str
) -> Iterator[str]:
    kinds = {kind for part in parts for kind in _plain(part)}
    if ours.kind.startswith(":"):
        words = _enum(model, attribute, many=ours.many)
        if words is None:
            yield f"{where}: 公开的模型里不是枚举"
        elif set(words) != set(words_of(ours.kind[1:], version)):
            yield f"{where}: 枚举不同 {sorted(set(words) ^ set(words_of(ours.kind[1:], version)))}"
        return
    if ours.kind in ("any", "map"):
        return
    if ours.kind not in kinds:
        yield f"{where}: 类型不同（公开的是 {sorted(kinds)}，字段表里是 {ours.kind}）"
    elif ours.kind == "str" and _enum(model, attribute, many=ours.many) is not None:
        yield f"{where}: 公开的模型里是枚举"


def _plain(part: Any) -> set[str]:
    name = getattr(part, "__name__", str(part))
    return {"str": {"str"}, "int": {"i32", "i64"}, "bool": {"bool"}, "float": {"num"}}.get(name, set())


def _enum(model: type[BaseModel], attribute: str, *, many: bool) -> list[str] | None:
    """枚举的词：写一个肯定不在其中的，模型的错误里列出全部。"""
    field = model.model_fields[attribute]
    bad: Any = ["__not_a_word__"] if many else "__not_a_word__"
    try:
        model.model_validate({field.alias or attribute: bad})
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "value_error" and item["loc"][0] in (field.alias, attribute):
                match = re.search(r"one of (?:enum values )?\((.*)\)", item["msg"])
                if match:
                    return [word for word in re.findall(r"'([^']*)'", match[1]) if word]
    return None
