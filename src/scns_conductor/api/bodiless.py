"""没有请求体的端点：写了字段的拒绝，不当作没有写而照做。"""

import json

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute

from scns_conductor.api.body_budget import BodyRefused
from scns_conductor.core.errors import InvalidRequest

# 从不破坏的接口：从前带着什么都照办，只拒绝写错了地方、会改变意思的（signal）。
FIXED_PATH = "/jobs/cancel/{job_id}"


async def without_body(request: Request) -> None:
    """没有请求体的端点收到了请求体（空的、{}、null 不算）：抛 InvalidRequest，不当作没有写而照做。"""
    route = request.scope["route"]
    try:
        body = (await request.body()).strip()
    except BodyRefused:
        raise InvalidRequest("body", "没有收完请求体") from None
    if body in (b"", b"null") or (body.startswith(b"{") and not body[1:-1].strip()):
        return
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    query = {parameter.alias for parameter in route.dependant.query_params}
    if route.path == FIXED_PATH and query.isdisjoint(given if isinstance(given, dict) else ()):
        return
    names = sorted(given, key=lambda name: name not in query)[:1] if isinstance(given, dict) else []
    for name in names:
        how = f"；请写在地址里（?{name}=…）" if name in query else "；可用的参数见 /docs"
        raise InvalidRequest(name, f"这个端点没有请求体，不能写字段 {name!r}{how}", code="unknown_field")
    raise InvalidRequest("body", "这个端点没有请求体；请不要写，参数见 /docs")


_WITHOUT_BODY = Depends(without_body)


def bodies_checked(router: APIRouter) -> APIRouter:
    """router，其中会改变什么、又没有请求体的各端点先看一眼请求体；别的端点不为此花什么。"""
    for route in router.routes:
        if isinstance(route, APIRoute) and _takes_none(route) and _WITHOUT_BODY not in route.dependencies:
            route.dependencies.append(_WITHOUT_BODY)
    return router


def _takes_none(route: APIRoute) -> bool:
    return route.methods != {"GET"} and route.body_field is None and "requestBody" not in (route.openapi_extra or {})
