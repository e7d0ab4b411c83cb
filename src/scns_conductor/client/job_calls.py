"""作业的端点：提交、查询、控制。"""

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from scns_conductor.client.flow import Ahead, Effect, Emit, EmitEach, Take, steadily, streamed
from scns_conductor.client.problem import Problem
from scns_conductor.client.request import Json, Request, many, one, plain, segment

if TYPE_CHECKING:
    from scns_conductor.client.answers import (
        Acted,
        CancelAnswer,
        DependencyGraph,
        HistoryImported,
        Job,
        JobAnswer,
        JobEvent,
        JobSamples,
        Plan,
        Why,
    )
    from scns_conductor.client.live_display import Bar, Progress
    from scns_conductor.client.wire import Answer

JobAction = Literal["hold", "release", "requeue", "suspend", "resume"]
ControlAction = JobAction | Literal["cancel", "signal"]
JobId = str | int
PAGE_MOST = 1000
# 一批提交这么多个，脚本合计至多这么多字（请求体的上限是 SCNS_BATCH_MAX_BYTES，一个字至多三个字节）。
BATCH = 1000
BATCH_CHARACTERS = 8 << 20


class Submission(TypedDict):
    """批量提交里的一个作业。"""

    job: Json
    script: str


class JobCalls:
    """提交、查询、输出、控制、作业步。"""

    # ---- 提交 ----

    @plain
    def submit(self, job: Mapping[str, Any], script: str, *, idempotency_key: str | None = None) -> "Request[str]":
        """提交一份脚本，返回作业号。同一个 idempotency_key 只产生一个作业，缺省每次一个新的：断了可以放心重送。"""
        return Request(
            "POST", "/jobs/submit", body={"job": dict(job), "script": script}, keyed=True, key=idempotency_key,
            read=lambda answer: str(answer.json()["job_id"]),
        )  # fmt: skip

    @plain
    def submit_batch(self, jobs: Sequence[Submission], *, idempotency_key: str | None = None) -> "Request[list[str]]":
        """成批提交，全部成功或全部不提交；返回作业号，次序与给的相同。"""
        return Request(
            "POST", "/jobs/submit/batch", body={"jobs": list(jobs)}, keyed=True, key=idempotency_key,
            read=lambda answer: [str(job_id) for job_id in answer.json()["job_ids"]],
        )  # fmt: skip

    @plain
    def submit_heterogeneous(
        self, jobs: Sequence[Mapping[str, Any]], script: str = "", *, idempotency_key: str | None = None
    ) -> "Request[list[str]]":
        """提交一个异构作业：jobs 是各个部分的要求，脚本在第 0 个部分上运行；返回各个部分的作业号。"""
        return Request(
            "POST", "/jobs/submit/het", body={"jobs": [dict(job) for job in jobs], "script": script}, keyed=True,
            key=idempotency_key, read=lambda answer: [str(job_id) for job_id in answer.json()["job_ids"]],
        )  # fmt: skip

    @streamed
    def submit_many(
        self, jobs: Iterable[Submission], *, batch: int = BATCH, progress: "Progress" = False
    ) -> Generator[Effect | Emit[str], Any, None]:
        """一批一批地提交许多作业，逐个交出作业号，次序与给的相同；jobs 可以是边走边造的。

        一批全有或全无，带自己的幂等键；出错时已经交出的号就是已经提交的。脚本大的一批少几个，不超过服务器收的。
        progress 为真时显示进度条（终端里要装 rich），也可以是函数 (提交了几个, 总共几个)。
        """
        # 显示的只在这里用到，命令不必导入。
        from scns_conductor.client.live_display import bar_for

        waiting: list[Submission] = []
        size = 0
        bar = bar_for(progress, "提交", len(jobs) if isinstance(jobs, Sized) else None)
        try:
            for job in jobs:
                if waiting and (len(waiting) >= batch or size + len(job["script"]) > BATCH_CHARACTERS):
                    yield from _submit(waiting, bar)
                    waiting, size = [], 0
                waiting.append(job)
                size += len(job["script"])
            if waiting:
                yield from _submit(waiting, bar)
        finally:
            bar.close()

    @one
    def plan(self, job: Mapping[str, Any], script: str) -> "Request[Plan]":
        """假如现在提交，何时、在哪里开始；什么也不留下。"""
        return Request("POST", "/jobs/plan", body={"job": dict(job), "script": script})

    # ---- 查询 ----

    @one
    def query(self, job_id: JobId) -> "Request[JobAnswer]":
        """固定的查询接口。"""
        return Request("GET", f"/jobs/query/{segment(job_id)}")

    @one
    def job(self, job_id: JobId) -> "Request[Job]":
        """一个作业的一切；脚本、环境、输出只有本人与管理员看得到。"""
        return Request("GET", f"/jobs/{segment(job_id)}")

    @plain
    def jobs_page(self, /, **filters: Any) -> "Request[Json]":
        """列表的一页 {jobs, next_cursor}，原样；条件见 docs/api.md 的 GET /jobs，列表写成逗号分隔。"""
        return Request("GET", "/jobs", query=filters, read=lambda answer: answer.json())

    @streamed
    def jobs(self, /, *, most: int | None = None, **filters: Any) -> "Generator[Effect | Emit[Job], Any, None]":
        """逐页取出符合条件的作业；most 是最多几个；fields 是只要哪些字段（快得多）。"""
        asked = {"limit": min(PAGE_MOST, most or PAGE_MOST), **filters}
        if filters.get("fields"):
            # 不重复字段名：小一半，解析快几倍。
            asked["layout"] = "rows"
        yield from _paged(asked, most, lambda names, rows: EmitEach(_objects(names, rows), "Job"))

    @streamed
    def job_columns(self, /, **filters: Any) -> "Generator[Effect | Emit[dict[str, Sequence[Any]]], Any, None]":
        """同 jobs，一页一页地：字段 → 这一页各作业的值。fields 要写；几万个以上时比一个个对象省一半的 CPU。"""
        asked = {"limit": PAGE_MOST, **filters, "layout": "rows"}
        yield from _paged(asked, None, lambda names, rows: Emit(_columns(names, rows)))

    @many
    def events(self, job_id: JobId) -> "Request[JobEvent]":
        """作业的历史：每次状态变化一条。"""
        return Request("GET", f"/jobs/{segment(job_id)}/events", within="events")

    @one
    def dependencies(self, job_id: JobId) -> "Request[DependencyGraph]":
        """依赖图：它等谁，谁等它（还没有结束的）。"""
        return Request("GET", f"/jobs/{segment(job_id)}/dependencies")

    @one
    def samples(self, job_id: JobId, *, attempt: int | None = None, live: bool = False) -> "Request[JobSamples]":
        """用量随时间怎样变化，只给本人与管理员；attempt 缺省是最近一次，live 为真时先请节点此刻采样一次。"""
        query = {"attempt": attempt, "live": True if live else None}
        return Request("GET", f"/jobs/{segment(job_id)}/samples", query=query)

    @plain
    def script(self, job_id: JobId) -> "Request[str]":
        """作业的脚本原文。"""
        return Request("GET", f"/jobs/{segment(job_id)}/script", read=lambda answer: answer.body.decode())

    @one
    def why(self, job_id: JobId) -> "Request[Why]":
        """作业为什么还没有开始，预计何时开始。"""
        return Request("GET", f"/jobs/{segment(job_id)}/why")

    # ---- 控制 ----

    @one
    def cancel(self, job_id: JobId) -> "Request[CancelAnswer]":
        """取消作业；已经结束的不变。"""
        return Request("POST", f"/jobs/cancel/{segment(job_id)}")

    @one
    def signal(self, job_id: JobId, signal: str, *, batch_only: bool = False) -> "Request[Acted]":
        """给运行中的作业发信号，如 USR1；batch_only 只发给脚本本身。"""
        body = {"signal": signal, "batch_only": batch_only}
        return Request("POST", f"/jobs/{segment(job_id)}/signal", body=body)

    @one
    def act(self, job_id: JobId, action: JobAction) -> "Request[Acted]":
        """保留、放行、重新排队、挂起、恢复。"""
        return Request("POST", f"/jobs/{segment(job_id)}/{action}")

    @plain
    def control(
        self,
        /,
        action: ControlAction,
        job_ids: Sequence[str] = (),
        conditions: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "Request[tuple[list[Json], dict[str, Problem]]]":
        """对一批作业（作业号、条件，或两者的交）做一件事：(做成的, 作业号 → 错误)。

        options 是 hold（requeue）、signal 与 target（signal）。两万个也只是一个请求、一个事务。
        """
        body: Json = {"action": action, "job_ids": list(job_ids), **options}
        if conditions:
            body["conditions"] = dict(conditions)
        return Request("POST", "/jobs/control", body=body, read=_controlled)

    @one
    def import_history(self, source: str, jobs: Sequence[Mapping[str, Any]]) -> "Request[HistoryImported]":
        """写进别的系统里结束了的作业（管理员），一次至多 1000 个；再送一遍不重。字段见 docs/api.md。"""
        return Request(
            "POST", "/jobs/history", body={"source": source, "jobs": [dict(job) for job in jobs]}, keyed=True
        )

    @one
    def hold(self, job_id: JobId) -> "Request[Acted]":
        """保留：排队但不启动。"""
        return Request("POST", f"/jobs/{segment(job_id)}/hold")

    @one
    def release(self, job_id: JobId) -> "Request[Acted]":
        """放行被保留的作业。"""
        return Request("POST", f"/jobs/{segment(job_id)}/release")

    @one
    def requeue(self, job_id: JobId, *, hold: bool = False) -> "Request[Acted]":
        """重新排队：运行中的先结束，作业号不变；hold 为真时随即保留。"""
        return Request("POST", f"/jobs/{segment(job_id)}/requeue", query={"hold": True} if hold else {})

    @one
    def suspend(self, job_id: JobId) -> "Request[Acted]":
        """挂起运行中的作业。"""
        return Request("POST", f"/jobs/{segment(job_id)}/suspend")

    @one
    def resume(self, job_id: JobId) -> "Request[Acted]":
        """恢复挂起的作业。"""
        return Request("POST", f"/jobs/{segment(job_id)}/resume")

    @one
    def update(self, job_id: JobId, changes: Mapping[str, Any]) -> "Request[Acted]":
        """修改排队中的作业（或降低运行中作业的时限）。"""
        return Request("PATCH", f"/jobs/{segment(job_id)}", body=dict(changes))

    @plain
    def update_many(
        self, job_ids: Sequence[JobId], changes: Mapping[str, Any]
    ) -> "Request[tuple[list[Json], dict[str, Problem]]]":
        """同样地修改一批作业，一个请求、一个事务：(改成的, 作业号 → 错误)。"""
        body: Json = {"job_ids": [str(job_id) for job_id in job_ids], "changes": dict(changes)}
        return Request("PATCH", "/jobs", body=body, read=_controlled)


def _controlled(answer: "Answer") -> tuple[list[Json], dict[str, Problem]]:
    found = answer.json()
    errors = {each["job_id"]: Problem(each["status"], each["code"], each["detail"]) for each in found["errors"]}
    return found["jobs"], errors


def _paged(
    asked: dict[str, Any], left: int | None, shown: Callable[[list[str] | None, list[Any]], Emit[Any]]
) -> "Generator[Effect | Emit[Any], Any, None]":
    """逐页取，每页交出 shown(layout=rows 的字段名, 各行)；left 是至多几个。"""
    page = yield Request("GET", "/jobs", query=asked)
    while left is None or left > 0:
        rows = page["jobs"] if left is None else page["jobs"][:left]
        left = None if left is None else left - len(rows)
        cursor = page.get("next_cursor")
        coming = None
        if cursor and rows and left != 0:
            # 用着这一页的时候，下一页已经在路上。
            coming = yield Ahead(Request("GET", "/jobs", query={**asked, "cursor": cursor}))
        yield shown(page.get("fields"), rows)
        if coming is None:
            return
        page = yield Take(coming)


def _objects(names: list[str] | None, rows: list[Any]) -> list[Any]:
    """layout=rows 的一页 -> 每个作业一个对象；本来就是的原样。"""
    return rows if names is None else [dict(zip(names, row, strict=True)) for row in rows]


def _columns(names: list[str] | None, rows: list[Any]) -> dict[str, Sequence[Any]]:
    """layout=rows 的一页 -> 字段 → 各作业的值。"""
    assert names is not None
    return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())


def _submit(jobs: list[Submission], bar: "Bar") -> Generator[Effect | Emit[str], Any, None]:
    request: Request[list[str]] = Request(
        "POST", "/jobs/submit/batch", body={"jobs": list(jobs)}, keyed=True, key=os.urandom(16).hex(), within="job_ids"
    )
    # 断了、服务器暂时不在：用同一个键再送，不会多出作业。
    job_ids = yield from steadily(request)
    bar.advance(len(job_ids))
    for job_id in job_ids:
        yield Emit(str(job_id))
