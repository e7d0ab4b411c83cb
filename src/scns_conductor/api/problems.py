"""错误的渲染：RFC 9457 的 problem JSON，稳定的英文 code，中文的 detail。全部错误只在这里成形。"""

import difflib
import json
import re
import typing
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import asyncpg
import sqlalchemy as sa
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.routing import Match

from scns_conductor.api.database_problem import database_error
from scns_conductor.api.derived import not_none
from scns_conductor.api.job_request import BatchRequest, JobRequest, SubmitRequest
from scns_conductor.api.refusals import note_refusal
from scns_conductor.core.async_database import DRIVER_ERRORS
from scns_conductor.core.errors import ConductorError, FieldError

MEDIA_TYPE = "application/problem+json"
# 位置参数写坏了就是“没有这样的东西”。
_KNOWN_FIELDS = sorted(
    {
        *JobRequest.model_fields,
        *(
            name
            for field in JobRequest.model_fields.values()
            for name in getattr(field.validation_alias, "choices", ())
            if isinstance(name, str)
        ),
        *SubmitRequest.model_fields,
        *BatchRequest.model_fields,
    }
)
_MESSAGES = {
    "missing": "缺少这个字段",
    "string_type": "必须是文字",
    "string_too_short": "太短，至少 {min_length} 个字符",
    "string_too_long": "太长，至多 {max_length} 个字符",
    "string_pattern_mismatch": "写法不对，应符合 {pattern}",
    "string_unicode": "不是合法的 Unicode 文字",
    "int_type": "必须是整数",
    "int_parsing": "必须是整数",
    "int_parsing_size": "整数过大",
    "int_from_float": "必须是整数",
    "float_type": "必须是数",
    "float_parsing": "必须是数",
    "finite_number": "必须是有限的数",
    "bool_type": "必须是 true 或 false",
    "bool_parsing": "必须是 true 或 false",
    "dict_type": '必须是对象，如 {{"名": "值"}}',
    "list_type": "必须是数组",
    "model_type": "必须是 JSON 对象",
    "model_attributes_type": "必须是 JSON 对象",
    "too_short": "至少要有 {min_length} 项",
    "too_long": "至多 {max_length} 项",
    "greater_than_equal": "不能小于 {ge}",
    "less_than_equal": "不能大于 {le}",
    "greater_than": "必须大于 {gt}",
    "less_than": "必须小于 {lt}",
    "literal_error": "只能是 {expected}",
    "enum": "只能是 {expected}",
}
# 已经另有一行日志的。
_TOLD = frozenset({"row_locked", "schema_mismatch"})
_TITLES = {
    400: "请求有误",
    401: "需要认证",
    403: "不允许",
    404: "不存在",
    405: "不支持这个方法",
    408: "太慢",
    409: "冲突",
    413: "太大",
    415: "不支持的内容类型",
    416: "范围不对",
    422: "字段不合法",
    429: "太多",
    431: "请求头太大",
    500: "内部错误",
    503: "暂时不可用",
    504: "没有按时回答",
}

logger = structlog.get_logger(__name__)


def problem_response(
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """一个 problem JSON 的回答。"""
    text = json.dumps(problem_body(status, code, detail, errors), ensure_ascii=False).encode("utf-8", "replace")
    return Response(text, status, dict(headers or {}), MEDIA_TYPE)


def problem_body(status: int, code: str, detail: str, errors: Sequence[FieldError] = ()) -> dict[str, Any]:
    """problem JSON 的内容。"""
    return {
        "type": f"urn:scns-conductor:problem:{code}",
        "title": _TITLES.get(status, HTTPStatus(status).phrase),
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [{"field": error.field, "message": error.message} for error in errors],
    }


def _location(parts: Sequence[Any]) -> str:
    """('body', 'jobs', 17, 'job', 'name') -> jobs[17].job.name。"""
    text = ""
    for part in parts[1:] if parts and parts[0] in ("body", "query", "path", "header") else parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("function-before", "function-after") and not str(part).startswith(("function-", "nullable")):
            text += f".{part}" if text else str(part)
    return text or "body"


def _fields_beside(body: Any, location: Sequence[Any]) -> Collection[str]:
    """请求体的模型里，不认识的那个字段旁边有哪些；看不出来是作业的那些。"""
    at = body
    for part in location[1:-1]:
        if isinstance(part, int):
            at = next(iter(typing.get_args(not_none(at))), None)
        elif isinstance(at, type) and issubclass(at, BaseModel) and part in at.model_fields:
            at = not_none(at.model_fields[part].annotation)
    at = not_none(at)
    if not (isinstance(at, type) and issubclass(at, BaseModel)) or at.__module__ == JobRequest.__module__:
        return _KNOWN_FIELDS
    return sorted(at.model_fields)


def validation_message(error: Mapping[str, Any], body: Any = None) -> str:
    """Pydantic 的一个错误 -> 中文的一句；body 是请求体的模型。"""
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "extra_forbidden":
        name = str(error["loc"][-1])
        known = _fields_beside(body, error["loc"])
        if name in known:
            return f"这里不能写字段 {name!r}"
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        return f"不认识的字段 {name!r}" + (f"；是不是 {near[0]}？" if near else "；可用的字段见 /docs")
    if kind == "value_error":
        return str(context.get("error") or error["msg"])
    template = _MESSAGES.get(kind)
    return template.format(**context) if template else f"不合法：{error['msg']}"


def validation_problem(error: RequestValidationError, body: Any = None) -> Response:
    """Pydantic 的校验错误；JSON 本身写坏了是 400。body 是请求体的模型，写错的字段由它说出最像的。"""
    found = error.errors()
    broken = next((item for item in found if item["type"] == "json_invalid"), None)
    if broken is not None:
        reason = (broken.get("ctx") or {}).get("error", "")
        return problem_response(400, "malformed_json", f"请求体不是合法的 JSON：{reason}；请检查引号与逗号")
    errors = [FieldError(_location(item["loc"]), validation_message(item, body)) for item in found[:100]]
    unknown = any(item["type"] == "extra_forbidden" for item in found)
    detail = "；".join(f"{item.field}：{item.message}" for item in errors[:3])
    if len(found) > 3:
        detail += f"……共 {len(found)} 处"
    return problem_response(422, "unknown_field" if unknown else "invalid_field", detail, errors)


async def unexpected_problem(path: str, error: Exception, engine: AsyncEngine) -> Response:
    """不是业务错误的异常：数据库暂时不行是 503，它不收的文字是 422，别的是 500；记进日志。"""
    known = await database_error(error, engine)
    if known is not None:
        if known.code not in _TOLD:
            event = "database_unavailable" if known.status == 503 else "text_refused"
            logger.warning(event, error=type(error).__name__, code=known.code)
        return conductor_problem(known)
    logger.error("unexpected_error", path=path, exc_info=error)
    return problem_response(500, "internal_error", "服务器内部出错，已记在日志里；请把 X-Request-Id 告诉管理员")


def conductor_problem(error: ConductorError) -> Response:
    """业务错误。"""
    return problem_response(error.status, error.code, error.detail, error.errors, error.headers)


_HTTP_CODES = {404: "path_not_found", 405: "method_not_allowed"}


def _allowed(request: Request) -> set[str]:
    """这个地址的全部方法。"""
    same = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return set().union(*(getattr(route, "methods", None) or () for route in same))


def install(app: FastAPI) -> None:
    """给应用装上各种错误的处理。"""

    @app.exception_handler(ConductorError)
    async def _conductor(request: Request, error: ConductorError) -> Response:
        await note_refusal(request.scope, error)
        return conductor_problem(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        body = getattr(request.scope.get("route"), "body_field", None)
        return validation_problem(error, None if body is None else body.field_info.annotation)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _HTTP_CODES.get(error.status_code, re.sub(r"\W+", "_", HTTPStatus(error.status_code).phrase.lower()))
        details = {
            404: f"没有 {request.url.path} 这个地址；接口见 /docs",
            405: f"{request.url.path} 不支持 {request.method}；接口见 /docs",
        }
        detail = details.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Starlette 只写头一个同路径的路由的方法。
            headers["Allow"] = ", ".join(sorted(_allowed(request)))
        if error.status_code == 400:
            return problem_response(400, "malformed_json", "请求体读不出来；请用 UTF-8 的 JSON")
        return problem_response(error.status_code, code, detail, headers=headers)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        return await unexpected_problem(request.url.path, error, request.app.state.parts.engine)

    for kind in (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError, asyncpg.PostgresError, *DRIVER_ERRORS):
        app.add_exception_handler(kind, _unexpected)
