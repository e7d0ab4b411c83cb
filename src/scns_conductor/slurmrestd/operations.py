"""一个操作：地址、回答与请求体的表、从哪一版起有；收、读、答、错误的样子都在这里，各操作只管做事。"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scns_conductor.api.dependencies import Parts, submitter_of
from scns_conductor.api.refusals import note_refusal
from scns_conductor.api.roles import authorize
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database, SharedTransaction
from scns_conductor.services.new_job import Submitter
from scns_conductor.slurm.error_words import NUMBERS, SLURM_ERROR, slurm_words
from scns_conductor.slurm.shapes.envelope import OLD_VERSIONS, answer, error, meta
from scns_conductor.slurm.shapes.schema import NEWEST, BodyError, accept, fields_of, version_number

PARSING_FAILED = 9001
_OLD_KEPT = (401, 503, 504)

Values = Mapping[str, Any]


@dataclass(slots=True)
class Call:
    """一次请求：哪一版、谁、参数、读好的请求体；做事的函数可以加 warnings。"""

    version: str
    kind: str
    parts: Parts
    identity: Identity
    request: Request
    argument: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    raw: Any = None
    warnings: list[dict[str, str]] = field(default_factory=list)

    # 改记账的一次请求是一个事务：有一行不行，前面的也不算。
    transaction: SharedTransaction | None = None

    @property
    def database(self) -> Database:
        """这次请求的事务；没有的各自开始。"""
        return self.transaction or self.parts.engine

    @property
    def old(self) -> bool:
        """v0.0.38 与 v0.0.39：样子另是一套。"""
        return self.version in OLD_VERSIONS

    @property
    def submitter(self) -> Submitter:
        """谁、从哪里提交。"""
        return submitter_of(self.identity, self.request.headers.get("x-scns-source"))

    def query(self, *names: str) -> str | None:
        """查询参数（几个名字是同一个意思）；写了几次的用逗号连起来，空的是没有写。"""
        found = [text for name in names for text in self.request.query_params.getlist(name) if text]
        return ",".join(found) or None

    def warn(self, description: str, source: str = "") -> None:
        """回答里的一条 warnings。"""
        self.warnings.append({"description": description, "source": source})

    def head(self, errors: Iterable[Values] = ()) -> dict[str, Any]:
        """回答的外壳。"""
        client = self.request.client
        found = meta(
            self.version,
            self.kind,
            series=self.parts.settings.slurm_version,
            source=f"{client.host}:{client.port}" if client else "",
            user=self.identity.user_name,
        )
        return {"meta": found, "errors": list(errors), "warnings": self.warnings}


Handler = Callable[[Call], Awaitable[Values | Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """地址是 /插件/版本/path；path 里的 {名字} 是一个参数。answer、body 是 fields.txt 里的表。"""

    method: str
    plugin: str
    path: str
    summary: str
    answer: str
    handler: Handler
    body: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    since: int = 40
    until: int = NEWEST
    source: str = ""
    # 没有东西可答时的样子（列表是空的）；错误的回答里也有。
    empty: Values = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """meta.plugin.type。"""
        return "openapi/slurmdbd" if self.plugin == "slurmdb" else "openapi/slurmctld"

    @property
    def route(self) -> str:
        """路由的样子，api.roles 的表里这样写。"""
        return f"/{self.plugin}/{{version}}/{self.path}"

    def answer_in(self, version: str) -> str:
        """那一版的回答的表；answer 如 "openapi_resp 42:openapi_kill_job_resp" 是从 v0.0.42 起换成后一个。"""
        first, *later = self.answer.split()
        for word in later:
            since, _, name = word.partition(":")
            if version_number(version) >= int(since):
                first = name
        return first

    def covers(self, version: str) -> bool:
        """那一版有没有这个操作。"""
        return self.since <= version_number(version) <= self.until


OPERATIONS: list[Operation] = []


def operation(
    method: str,
    plugin: str,
    path: str,
    answer: str = "openapi_resp",
    *,
    body: str | None = None,
    query: str = "",
    since: int = 40,
    source: str = "",
    empty: str = "",
) -> Callable[[Handler], Handler]:
    """登记一个操作；说明是函数的第一行。query 如 "users flags update_time:int"，empty 是列表的键。"""

    def register(handler: Handler) -> Handler:
        parameters = {name: kind or "string" for name, _, kind in (word.partition(":") for word in query.split())}
        summary = (handler.__doc__ or "").strip().splitlines()[0]
        nothing: dict[str, Any] = {key: [] for key in empty.split()}
        OPERATIONS.append(
            Operation(method, plugin, path, summary, answer, handler, body, parameters, since, NEWEST, source, nothing)
        )
        return handler

    return register


def _plain(value: Any) -> Any:
    return str(value)


def respond(operation: Operation, call: Call, values: Values, errors: Iterable[Values] = (), status: int = 200,
            headers: Mapping[str, str] | None = None) -> Response:  # fmt: skip
    """照那一版的表写出来。"""
    found = answer(operation.answer_in(call.version), call.version, values, call.head(errors))
    text = json.dumps(found, ensure_ascii=False, default=_plain)
    return Response(text.encode("utf-8", "replace"), status, dict(headers or {}), "application/json")


def failure(operation: Operation, call: Call, problem: ConductorError) -> Response:
    """业务的错误。旧版照 slurmrestd 多半是 500；新版是这个错误自己的状态（字段不对是 400）。"""
    where = problem.errors[0].field if problem.errors else ""
    words = slurm_words(problem.code, where) or problem.detail
    found = error(words, NUMBERS.get(words, SLURM_ERROR), problem.detail, operation.source)
    status = 400 if problem.status == 422 else problem.status
    if call.old:
        status = status if status in _OLD_KEPT else 500
    return respond(operation, call, operation.empty, [found], status, problem.headers)


def _invalid(operation: Operation, call: Call, messages: Iterable[str]) -> Response:
    """请求体写错了：400，逐个点名。"""
    found = [error(message, PARSING_FAILED, "", operation.source) for message in messages]
    found.append(error("Failure during parsing", PARSING_FAILED, "", operation.source))
    if call.old:
        found = [{"error_code": each["error_number"], "error": each["error"]} for each in found]
    return respond(operation, call, operation.empty, found, 400)


def _messages(problem: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in problem.errors()[:20]]


async def perform(operation: Operation, call: Call) -> Response:
    """读请求体、做、答；已知的错误都在回答里。"""
    try:
        authorize(operation.method, operation.route, call.identity)
        await _read_body(operation, call)
        if operation.plugin == "slurmdb" and operation.method != "GET":
            async with call.parts.engine.begin() as connection:
                call.transaction = SharedTransaction(connection)
                found = await operation.handler(call)
            call.parts.accounting.forget()
        else:
            found = await operation.handler(call)
    except ConductorError as problem:
        await note_refusal(call.request.scope, problem)
        return failure(operation, call, problem)
    except ValidationError as problem:
        return _invalid(operation, call, _messages(problem))
    except BodyError as problem:
        return _invalid(operation, call, [str(problem)])
    return found if isinstance(found, Response) else respond(operation, call, {**operation.empty, **found})


async def _read_body(operation: Operation, call: Call) -> None:
    """有的客户把条件写在 GET 的请求体里：对象就收下，不是 JSON 的 GET 不管。"""
    raw = await call.request.body()
    if not raw.strip():
        if operation.body is not None:
            raise BodyError("body", "a JSON object is required")
        return
    try:
        call.raw = json.loads(raw)
    except (ValueError, RecursionError) as broken:
        if operation.body is None:
            return
        raise BodyError("body", f"not valid JSON: {broken}") from broken
    if operation.body is None:
        return
    if not isinstance(call.raw, dict):
        raise BodyError("body", "expected an object")
    if call.old:
        call.body = call.raw
        return
    unknown: list[str] = []
    call.body = accept(operation.body, call.version, call.raw, unknown)
    for where in unknown[:100]:
        call.warn(f'Ignoring unknown field "{where}"', operation.source)
    missing = [key for key, each in fields_of(operation.body, call.version).items()
               if each.required and key not in call.body]  # fmt: skip
    if missing:
        raise BodyError(missing[0], "required field is missing")


def plain_answer(status: int, text: str) -> Response:
    """没有外壳的回答（没有这个地址）。"""
    return JSONResponse({"errors": [error(text, SLURM_ERROR, text)], "warnings": []}, status)
