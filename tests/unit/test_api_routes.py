"""一个请求在到它的端点之前花多少：路由不逐条比，依赖不换线程。"""

import inspect
import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Match

from function_calls import calls
from scns_conductor.api.app import build_app
from scns_conductor.core.settings import Settings


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return build_app(Settings(data_dir=tmp_path_factory.mktemp("api")))


def matched(app: FastAPI, method: str, path: str) -> bool:
    """有没有端点管这个请求。"""
    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    return any(route.matches(scope)[0] == Match.FULL for route in app.router.routes)


def endpoints(app: FastAPI) -> Iterator[tuple[str, str, Dependant]]:
    """每个端点：方法、填好了的路径、它的依赖。"""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            for method in sorted(route.methods or ()):
                yield method, re.sub(r"\{[^}]*\}", "1", str(route.path)), route.dependant


def test_every_endpoint_is_found(app: FastAPI) -> None:
    found = list(endpoints(app))
    assert len(found) > 100
    assert [(method, path) for method, path, _ in found if not matched(app, method, path)] == []


def test_routes_of_other_places_are_not_compared(app: FastAPI) -> None:
    """头一段对不上的不比：一条一条地比一百多条，要两千次调用，还比两遍。"""
    assert matched(app, "GET", "/whoami")
    assert calls(lambda: matched(app, "GET", "/whoami")) < 400
    assert not matched(app, "GET", "/no-such-place")


def test_no_endpoint_or_dependency_needs_a_thread(app: FastAPI) -> None:
    """不是 async 的 FastAPI 放到线程里做：一去一回比它自己做的事贵。"""

    def plain(dependant: Dependant) -> Iterator[str]:
        call = dependant.call
        # 函数，或带 async __call__ 的（HTTPBearer）。
        if call is not None and not any(map(inspect.iscoroutinefunction, (call, type(call).__call__))):
            yield str(call)
        for each in dependant.dependencies:
            yield from plain(each)

    assert sorted({name for _, _, dependant in endpoints(app) for name in plain(dependant)}) == []
