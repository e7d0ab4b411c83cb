"""请求里的每一个参数、每一个字段：给它各种怪的值，不是收下就是说出哪里不对，用中文；不出别的错。"""

import importlib
import pkgutil
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError

from scns_conductor.api import routers
from scns_conductor.api.problems import validation_message

ODD: list[Any] = [
    *(None, True, -1, 1.5, 2**70, float("inf"), float("-inf"), float("nan")),
    *("", "x", "x" * 5000, "9" * 5000, "\ud800", "1e400", "-", "2020-01-01", b"x"),
    *([], [None], ["x" * 5000], [{}], [[]], [2**70]),
    *({}, {"": 1}, {"a": None}, {"a": "x" * 5000}, {"set": True, "number": float("inf")}),
]


def endpoints() -> Iterator[APIRoute]:
    for found in pkgutil.iter_modules(routers.__path__):
        router = importlib.import_module(f"{routers.__name__}.{found.name}").router
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def annotations() -> Iterator[tuple[str, Any]]:
    """全部参数与请求体：（在哪里，类型）。"""
    for route in endpoints():
        waiting = [route.dependant]
        while waiting:
            one = waiting.pop()
            waiting += one.dependencies
            for parameter in (*one.query_params, *one.path_params, *one.header_params, *one.body_params):
                kind = typing.Annotated[parameter.field_info.annotation, parameter.field_info]  # type: ignore[name-defined]
                yield f"{route.path} {parameter.name}", kind


def models_in(kind: Any, seen: set[type[BaseModel]]) -> None:
    """kind 里的全部模型，一层层往里。"""
    for part in typing.get_args(kind):
        models_in(part, seen)
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen.add(kind)
        for field in kind.model_fields.values():
            models_in(field.annotation, seen)


def english(validate: Callable[[Any], Any], value: Any, where: str) -> Iterator[str]:
    """校验说的话里照抄 pydantic 的英文的。"""
    try:
        validate(value)
    except ValidationError as refused:
        for error in refused.errors():
            if error["msg"] in validation_message(error) and error["type"] != "value_error":
                yield f"{where} {value!r:.40}: {error['type']}"


def test_odd_values_are_refused_in_our_words() -> None:
    seen: set[type[BaseModel]] = set()
    found = list(annotations())
    complaints = []
    for where, kind in found:
        models_in(kind, seen)
        adapter = TypeAdapter(kind)
        complaints += [line for value in ODD for line in english(adapter.validate_python, value, where)]
    for model in seen:
        for name, field in model.model_fields.items():
            key = field.validation_alias if isinstance(field.validation_alias, str) else name
            where = f"{model.__name__}.{name}"
            complaints += [line for value in ODD for line in english(model.model_validate, {key: value}, where)]
    assert len(found) > 200
    assert len(seen) > 40
    assert complaints == []


@pytest.mark.parametrize("value", [float("inf"), {"set": True, "number": float("inf")}])
def test_an_endless_time_limit_is_not_a_number(value: Any) -> None:
    from scns_conductor.api.job_request import JobRequest

    with pytest.raises(ValidationError, match="有限的数"):
        JobRequest.model_validate({"time_limit": value})
