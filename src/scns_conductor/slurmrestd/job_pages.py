"""作业的列表：逐页取、逐页写，十万个作业也不必先拼好。"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.responses import Response, StreamingResponse

from scns_conductor.services.job_list import MAX_LIMIT, JobFilter, Page, list_jobs
from scns_conductor.slurm.shapes.envelope import answer
from scns_conductor.slurmrestd.operations import Call, Values

# 一页作业的换算约十几毫秒：放到线程里，不占事件循环。
_PAGE = 1000

Jobs = list[dict[str, Any]]
Shape = Callable[[Jobs], Awaitable[Jobs]]


async def job_pages(call: Call, filters: JobFilter) -> AsyncIterator[Jobs]:
    """符合条件的作业，一页一页，按作业号。"""
    cursor: str | None = None
    while True:
        body = await list_jobs(call.parts.engine, filters, Page(min(_PAGE, MAX_LIMIT), "job_id", cursor))
        page = await asyncio.to_thread(json.loads, body)
        yield page["jobs"]
        cursor = page["next_cursor"]
        if not cursor:
            return


async def first_page(call: Call, filters: Sequence[JobFilter]) -> None:
    """条件写错的在开始回答之前就说。"""
    for each in filters:
        await list_jobs(call.parts.engine, each, Page(1, "job_id", None))


def streamed(call: Call, name: str, filters: Sequence[JobFilter], shape: Shape, others: Values) -> Response:
    """name 的回答，jobs 逐页地送；filters 依次列出，同一个作业只写一次。"""
    whole = json.dumps(answer(name, call.version, {**others, "jobs": []}, call.head()), ensure_ascii=False)
    head, tail = whole.split('"jobs": []', 1)

    async def body() -> AsyncIterator[str]:
        yield head + '"jobs": ['
        mark = ""
        seen: set[str] = set()
        for index, each in enumerate(filters):
            async for page in job_pages(call, each):
                fresh = [job for job in page if job["job_id"] not in seen]
                if index < len(filters) - 1:
                    seen.update(job["job_id"] for job in fresh)
                if fresh:
                    found = await shape(fresh)
                    yield mark + await asyncio.to_thread(_text, found)
                    mark = ","
        yield "]" + tail

    return StreamingResponse(body(), media_type="application/json")


def _text(records: Jobs) -> str:
    return ",".join(json.dumps(each, ensure_ascii=False, default=str) for each in records)
