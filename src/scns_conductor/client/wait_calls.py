"""等作业结束：等一个、先结束的先交出、看着一张会动的表。"""

import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from scns_conductor.client.flow import Effect, Emit, Sleep, first, steadily, streamed, waited
from scns_conductor.client.job_calls import JobId
from scns_conductor.client.job_states import LIVE, TERMINAL_STATES
from scns_conductor.client.request import Json, Request, segment

if TYPE_CHECKING:
    from scns_conductor.client.answers import Job
    from scns_conductor.client.live_display import Bar, Progress

# 一次问这么多个作业的状态。
ASK_MOST = 500
# watch 要的字段。
SHOWN = "name,state,reason,start_time,end_time,time_limit,array_job_id,array_task_id,array_remaining"
# 等作业结束：多久问一次（秒），从密到疏。
FIRST_PAUSE_S = 0.02
MOST_PAUSE_S = 1.0


class WaitCalls:
    """等。"""

    @waited
    def wait(self, job_id: JobId, *, timeout_s: float | None = None) -> "Generator[Effect, Any, Job]":
        """等到作业（数组是它的全部任务）结束，返回它；到时没有结束抛 TimeoutError。

        服务器暂时不在（重启、503）会继续等，至多连着 OUTAGE_S 秒。
        """
        return (yield from first(_finished([job_id], timeout_s)))  # type: ignore[no-any-return]

    @streamed
    def as_completed(
        self, job_ids: Iterable[JobId], *, timeout_s: float | None = None, progress: "Progress" = False
    ) -> "Generator[Effect | Emit[Job], Any, None]":
        """哪个先结束先交出哪个；数组的全部任务结束了才算。到时还有没结束的抛 TimeoutError。

        progress 为真时显示进度条（终端里要装 rich），也可以是函数 (完成了几个, 总共几个)。
        """
        # 显示的只在这里用到，命令不必导入。
        from scns_conductor.client.live_display import bar_for

        asked = list(dict.fromkeys(str(job_id) for job_id in job_ids))
        bar = bar_for(progress, "结束", len(asked))
        try:
            yield from _finished(asked, timeout_s, bar)
        finally:
            bar.close()

    @waited
    def watch(
        self,
        job_ids: Iterable[JobId] | None = None,
        *,
        refresh_s: float = 1.0,
        timeout_s: float | None = None,
    ) -> "Generator[Effect, Any, list[Job]]":
        """看着这些作业，直到都结束，返回它们；不给作业号是自己此刻没有结束的。到时没有结束抛 TimeoutError。

        终端里是一张会动的表（要装 rich），Jupyter 里是原地更新的 HTML，别处只在有变化时写一行。refresh_s 秒看一遍。
        """
        from scns_conductor.client.live_display import table_for
        from scns_conductor.client.token_claims import user_name_of

        asked = list(job_ids) if job_ids is not None else (yield from _own_live(user_name_of(self)))  # type: ignore[arg-type]
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        table = table_for()
        try:
            while True:
                jobs = yield from _watched([str(job_id) for job_id in asked])
                table.show(jobs)
                left = [job.job_id for job in jobs if job.state not in TERMINAL_STATES]
                if not left:
                    return jobs
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"作业 {'、'.join(left[:10])} 在 {timeout_s:g} 秒内没有结束")
                yield Sleep(refresh_s)
        finally:
            table.close()


def _own_live(user: str) -> Generator[Effect, Any, list[str]]:
    """自己没有结束的作业；数组只是一个。"""
    page = yield from steadily(
        Request("GET", "/jobs", query={"user": user, "state": LIVE, "fields": "array_job_id", "limit": 10_000})
    )
    return list(dict.fromkeys(job["array_job_id"] or job["job_id"] for job in page["jobs"]))


def _watched(job_ids: list[str]) -> "Generator[Effect, Any, list[Job]]":
    from scns_conductor.client.answers import Job

    found: list[Job] = []
    for start in range(0, len(job_ids), ASK_MOST):
        cursor: str | None = ""
        while cursor is not None:
            query = {"job_id": job_ids[start : start + ASK_MOST], "fields": SHOWN, "limit": 10_000}
            page = yield from steadily(Request("GET", "/jobs", query={**query, "cursor": cursor or None}))
            found.extend(map(Job.from_json, page["jobs"]))
            cursor = page["next_cursor"]
    return found


def _finished(
    job_ids: Iterable[JobId], timeout_s: float | None, bar: "Bar | None" = None
) -> "Generator[Effect | Emit[Job], Any, None]":
    left = [str(job_id) for job_id in dict.fromkeys(job_ids)]
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while left:
        live = yield from _live(left)
        ended = [job_id for job_id in left if job_id not in live]
        for start in range(0, len(ended), ASK_MOST):
            part = ended[start : start + ASK_MOST]
            for job in (yield from _whole(part)):
                if bar is not None:
                    bar.advance(1)
                yield Emit(job, "Job")
        if ended:
            left, pause_s = [job_id for job_id in left if job_id in live], FIRST_PAUSE_S
            continue
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"作业 {'、'.join(left[:10])} 在 {timeout_s:g} 秒内没有结束")
        yield Sleep(pause_s)
        pause_s = min(pause_s * 1.5, MOST_PAUSE_S)


def _live(job_ids: list[str]) -> Generator[Effect, Any, set[str]]:
    """其中还没有结束的。"""
    found: set[str] = set()
    plain_ids = [job_id for job_id in job_ids if job_id.isdecimal()]
    query = {"state": LIVE, "fields": "array_job_id", "limit": 10_000}
    for start in range(0, len(plain_ids), ASK_MOST):
        cursor: str | None = ""
        while cursor is not None:
            asked = {**query, "job_id": plain_ids[start : start + ASK_MOST], "cursor": cursor or None}
            page = yield from steadily(Request("GET", "/jobs", asked))
            found.update(str(job[name]) for job in page["jobs"] for name in ("job_id", "array_job_id") if job[name])
            cursor = page["next_cursor"]
    for job_id in job_ids:
        # 12_3、12_[1-5]：由服务器认。
        if not job_id.isdecimal():
            page = yield from steadily(Request("GET", "/jobs", {**query, "job_id": job_id, "limit": 1}))
            if page["jobs"]:
                found.add(job_id)
    return found


def _whole(job_ids: list[str]) -> Generator[Effect, Any, list[Json]]:
    """这些结束了的作业的行，次序与给的相同。"""
    page = yield from steadily(Request("GET", "/jobs", {"job_id": job_ids, "limit": 10_000}))
    rows = {job["job_id"]: job for job in page["jobs"]}
    found = []
    for job_id in job_ids:
        # 数组任务的写法、数组太大一页没有装下的；没有的在这里抛 JobNotFound。
        row = rows.get(job_id) or (yield from steadily(Request("GET", f"/jobs/{segment(job_id)}")))
        found.append(row)
    return found
