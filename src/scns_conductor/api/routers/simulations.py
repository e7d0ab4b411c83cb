"""「假如」：拿集群自己的历史再演一遍（scns simulate --live）。"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import StreamingResponse

from scns_conductor.api.dependencies import IdentityDep, Parts, PartsDep, given_token
from scns_conductor.api.routers.diagnostics import moment_of
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.instants import utc_now
from scns_conductor.core.tokens import Identity, issue_token
from scns_conductor.language import Language, accepted_language
from scns_conductor.language.catalogue import english
from scns_conductor.services.simulations import Asker, Event, Question, error_event

router = SegmentRouter(tags=["诊断"])

# 替没有带令牌的签一个，够它算完（秒）。
_ASKER_TOKEN_S = 600

EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {}},
        "description": "SSE：accepted，progress {stage, policy, done, total}……，最后是 result 或 failed {code, detail}",
    },
    409: {"description": "管理员关掉了（simulations_off）"},
}


@router.get(
    "/simulate", summary="假如：换节点、上限、策略，再演一遍", responses=EVENTS, response_class=StreamingResponse
)
async def simulate(
    request: Request,
    parts: PartsDep,
    identity: IdentityDep,
    since: Annotated[
        str, Query(description="取此后提交的；ISO 8601、Unix 秒、now-1day 等", max_length=64)
    ] = "now-7day",
    policy: Annotated[
        str,
        Query(
            description="逗号分隔，至多四个：live（照线上的）、fifo、easy、conservative、sjf+none 等", max_length=200
        ),
    ] = "live",
    add_nodes: Annotated[
        list[str] | None,
        Query(description="加上这些节点，如 4:64:gpu:2:mem:256G；可写多次，或用逗号隔开", max_length=20),
    ] = None,
    remove_nodes: Annotated[str | None, Query(description="没有这些节点，如 node[3-4]", max_length=4096)] = None,
    cap_time_limit: Annotated[
        str | None, Query(description="时限至多这么长，如 24h、1-00:00:00", max_length=32)
    ] = None,
    scale_load: Annotated[float | None, Query(ge=0.1, le=10, description="负载是这么多倍（压缩到达间隔）")] = None,
    user_jobs: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="每个用户同时至多运行几个作业")] = None,
    user_cpus: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="每个用户同时至多占几个 CPU")] = None,
) -> StreamingResponse:
    """result 的 runs：实际的（actual）、没有改动重放的（before）、改了之后各策略的（after），各有指标与同样时刻的曲线。

    用的是你自己看得到的作业；每个用户同时一个，又问一个先前的就停下；断开连接也停下。
    至多两万个作业（最近的）、两分钟。
    """
    question = Question(
        since=moment_of("since", since, utc_now()).isoformat(),
        policy=policy,
        add_nodes=[spec.strip() for text in add_nodes or () for spec in text.split(",") if spec.strip()],
        remove_nodes=remove_nodes,
        cap_time_limit=cap_time_limit,
        scale_load=scale_load,
        user_jobs=user_jobs,
        user_cpus=user_cpus,
    )
    events = parts.simulations.run(_asker(request, identity, parts), question)
    # 先取第一个事件：写法不对、已有一个在算，还来得及用状态码回答。
    first = await anext(events)
    language = accepted_language(request.headers.get("accept-language"))
    return StreamingResponse(
        _sse(first, events, language), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


def _asker(request: Request, identity: Identity, parts: Parts) -> Asker:
    """子进程连的是这个请求来的那个套接字；没有带令牌的（本机套接字）给它一个短的，它不能以 API 的身份去问。"""
    host, port = request.scope["server"]
    shown = f"[{host}]" if ":" in host else host
    url = f"unix://{host}" if port is None else f"http://{shown}:{port}"
    token = given_token(request.headers) or issue_token(
        parts.settings, identity.user_name, admin=identity.admin, lifetime_s=_ASKER_TOKEN_S
    )
    return Asker(identity.user_name, url, token, accepted_language(request.headers.get("accept-language")))


async def _sse(first: Event, events: AsyncGenerator[Event, None], language: Language) -> AsyncIterator[bytes]:
    try:
        yield _event(first, language)
        async for event in events:
            yield _event(event, language)
    except ConductorError as error:
        yield _event(error_event(error), language)
    finally:
        await events.aclose()


def _event(event: Event, language: Language) -> bytes:
    name, data = event
    if language == "en" and "detail" in data:
        data = {**data, "detail": english(data["detail"])}
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
