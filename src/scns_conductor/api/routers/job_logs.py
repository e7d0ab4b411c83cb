"""作业的输出：按字节取一段，或边写边读（SSE）。"""

import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Header, Query, Response
from starlette.responses import StreamingResponse

from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.problems import problem_response
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.errors import ConductorError, InvalidRequest
from scns_conductor.services.job_output import MAX_READ_BYTES
from scns_conductor.services.output_files import OutputRange

router = SegmentRouter(prefix="/jobs", tags=["输出"])
_RANGE = re.compile(r"^bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))$")

BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}, "text/event-stream": {}}, "description": "字节，或 SSE 事件"},
    206: {"content": {"application/octet-stream": {}}, "description": "Range 要的一段"},
    416: {"description": "超出了文件的长度"},
}


@router.get("/{job_id}/logs/{stream}", summary="作业的输出", responses=BYTES, response_class=Response)
async def output(
    job_id: str,
    stream: Literal["stdout", "stderr"],
    parts: PartsDep,
    identity: IdentityDep,
    offset: Annotated[int | None, Query(ge=-(2**62), le=2**62, description="从第几个字节起；负数从末尾倒数")] = None,
    length: Annotated[int | None, Query(ge=1, le=2**62, description="至多几个字节；缺省到末尾")] = None,
    tail: Annotated[int | None, Query(ge=1, le=2**62, description="末尾几个字节")] = None,
    follow: Annotated[bool, Query(description="边写边读：SSE，事件是 output、state、end")] = False,
    range_header: Annotated[str | None, Header(alias="Range", description="bytes=0-99 或 bytes=-100")] = None,
) -> Response:
    """没有写 --error 时标准错误也在 stdout 里。X-Total-Bytes 是此刻的总长。"""
    if follow:
        events = parts.output.follow(identity, job_id, stream, max(0, offset or 0))
        # 先取第一个事件：作业不存在、不是自己的，还来得及用状态码回答。
        first = await anext(events)
        return StreamingResponse(
            _sse(first, events), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
    ranged = _RANGE.match(range_header.strip()) if range_header else None
    if range_header and ranged is None:
        raise InvalidRequest("Range", "只支持一段，例如 bytes=0-99 或 bytes=-100", code="range_invalid")
    if ranged and ranged[1]:
        offset, length = int(ranged[1]), int(ranged[2]) - int(ranged[1]) + 1 if ranged[2] else None
    elif ranged:
        offset = -int(ranged[3])
    elif tail is not None:
        offset = -tail
    first_part = await parts.output.read(identity, job_id, stream, offset or 0, length or MAX_READ_BYTES)
    if ranged and (first_part.total <= first_part.offset or (length is not None and length <= 0)):
        return problem_response(
            416, "range_not_satisfiable", "超出了输出的长度", headers={"Content-Range": f"bytes */{first_part.total}"}
        )
    wanted = first_part.total - first_part.offset
    if length is not None:
        wanted = min(wanted, length)
    headers = {"X-Total-Bytes": str(first_part.total), "Accept-Ranges": "bytes"}
    if ranged:
        last = first_part.offset + wanted - 1
        headers["Content-Range"] = f"bytes {first_part.offset}-{last}/{first_part.total}"

    async def chunks() -> AsyncIterator[bytes]:
        part: OutputRange = first_part
        sent = 0
        while part.data and sent < wanted:
            yield part.data[: wanted - sent]
            sent += len(part.data)
            if sent < wanted:
                part = await parts.output.read(identity, job_id, stream, first_part.offset + sent, wanted - sent)

    return StreamingResponse(
        chunks(), status_code=206 if ranged else 200, media_type="application/octet-stream", headers=headers
    )


async def _sse(
    first: tuple[str, dict[str, Any]], events: AsyncIterator[tuple[str, dict[str, Any]]]
) -> AsyncIterator[bytes]:
    yield _event(*first)
    try:
        async for name, data in events:
            yield _event(name, data)
    except ConductorError as error:
        yield _event("error", {"code": error.code, "detail": error.detail})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
