"""作业与作业步的端点。"""

import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from scns_conductor.client.flow import (
    OUTAGE_S,
    Ahead,
    Effect,
    Emit,
    EmitEach,
    Line,
    Listen,
    Patience,
    Sleep,
    Take,
    first,
    steadily,
    streamed,
    waited,
)
from scns_conductor.client.job_follow import EventParser, ServerEvent
from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.request import Json, Request, many, one, plain, segment

if TYPE_CHECKING:
    from scns_conductor.client.answers import (
        Acted,
        CancelAnswer,
        Job,
        JobAnswer,
        JobEvent,
        JobSamples,
        JobStep,
        Plan,
        Why,
    )
    from scns_conductor.client.wire import Answer

Stream = Literal["stdout", "stderr"]
JobAction = Literal["hold", "release", "requeue", "suspend", "resume"]
ControlAction = JobAction | Literal["cancel", "signal"]
JobId = str | int
PAGE_MOST = 1000
# 一次问这么多个作业的状态；一批提交这么多个。
ASK_MOST = 500
BATCH = 1000
# 与 core.states.TERMINAL_STATES 相同（有测试核对）。
TERMINAL_STATES = frozenset(
    {
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "OUT_OF_MEMORY",
        "DEADLINE",
        "BOOT_FAIL",
    }
)
# 没有结束的状态。
LIVE = "PENDING,RUNNING,SUSPENDED"
# 等作业结束：多久问一次（秒），从密到疏。
FIRST_PAUSE_S = 0.02
MOST_PAUSE_S = 1.0


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

    @streamed
    def submit_many(
        self, jobs: Iterable[Submission], *, batch: int = BATCH
    ) -> Generator[Effect | Emit[str], Any, None]:
        """一批一批地提交许多作业，逐个交出作业号，次序与给的相同；jobs 可以是边走边造的。

        一批全有或全无，带自己的幂等键；出错时已经交出的号就是已经提交的。
        """
        waiting: list[Submission] = []
        for job in jobs:
            waiting.append(job)
            if len(waiting) == batch:
                yield from _submit(waiting)
                waiting = []
        if waiting:
            yield from _submit(waiting)

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
        left = most
        asked = {"limit": min(PAGE_MOST, left or PAGE_MOST), **filters}
        if filters.get("fields"):
            # 不重复字段名：小一半，解析快几倍。
            asked["layout"] = "rows"
        page = _rows((yield Request("GET", "/jobs", query=asked)))
        while left is None or left > 0:
            jobs = page["jobs"] if left is None else page["jobs"][:left]
            left = None if left is None else left - len(jobs)
            cursor = page.get("next_cursor")
            coming = None
            if cursor and jobs and left != 0:
                # 用着这一页的时候，下一页已经在路上。
                coming = yield Ahead(Request("GET", "/jobs", query={**asked, "cursor": cursor}))
            yield EmitEach(jobs, "Job")
            if coming is None:
                return
            page = _rows((yield Take(coming)))

    @many
    def events(self, job_id: JobId) -> "Request[JobEvent]":
        """作业的历史：每次状态变化一条。"""
        return Request("GET", f"/jobs/{segment(job_id)}/events", within="events")

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

    @waited
    def wait(self, job_id: JobId, *, timeout_s: float | None = None) -> "Generator[Effect, Any, Job]":
        """等到作业（数组是它的全部任务）结束，返回它；到时没有结束抛 TimeoutError。

        服务器暂时不在（重启、503）会继续等，至多连着 OUTAGE_S 秒。
        """
        return (yield from first(_finished([job_id], timeout_s)))  # type: ignore[no-any-return]

    @streamed
    def as_completed(
        self, job_ids: Iterable[JobId], *, timeout_s: float | None = None
    ) -> "Generator[Effect | Emit[Job], Any, None]":
        """哪个先结束先交出哪个；数组的全部任务结束了才算。到时还有没结束的抛 TimeoutError。"""
        yield from _finished(job_ids, timeout_s)

    # ---- 输出 ----

    @plain
    def output(
        self,
        job_id: JobId,
        stream: Stream = "stdout",
        *,
        offset: int | None = None,
        length: int | None = None,
        tail: int | None = None,
    ) -> "Request[bytes]":
        """输出的字节：从 offset 起 length 个，或末尾 tail 个；都不给是全部。"""
        query = {"offset": offset, "length": length, "tail": tail}
        return Request("GET", _log(job_id, stream), query=query, read=lambda answer: answer.body)

    @streamed
    def follow(
        self, job_id: JobId, stream: Stream = "stdout", *, offset: int = 0, timeout_s: float = 60.0
    ) -> Generator[Effect | Emit[ServerEvent], Any, None]:
        """边写边读：output、state、end 事件；收到 end 之前断了抛 Unreachable，可从已读的字节数接着 follow。"""
        coming = yield Listen(_log(job_id, stream), {"follow": True, "offset": offset or None}, timeout_s)
        parser = EventParser()
        while (line := (yield Line(coming))) is not None:
            event = parser.feed(line)
            if event is None:
                continue
            if event.name == "error":
                found = event.json()
                raise Problem(503, str(found.get("code", "error")), str(found.get("detail", "服务器读不到输出")))
            yield Emit(event)
            if event.name == "end":
                return
        raise Unreachable("跟随输出的连接断了")

    @streamed
    def tail(
        self, job_id: JobId, stream: Stream = "stdout", *, offset: int = 0, timeout_s: float = 60.0
    ) -> Generator[Effect | Emit[bytes], Any, None]:
        """边写边读，直到作业结束，交出一块一块的字节；连接断了从断处接着，一个字节不漏、不重。

        服务器连着不在超过 OUTAGE_S 秒才抛 Unreachable。
        """
        patience = Patience(OUTAGE_S)
        while True:
            try:
                flow = JobCalls.follow.function(self, job_id, stream, offset=offset, timeout_s=timeout_s)
                for_sending: Any = None
                while True:
                    effect = flow.send(for_sending)
                    if not isinstance(effect, Emit):
                        for_sending = yield effect
                        continue
                    for_sending = None
                    patience.good()
                    if effect.value.name == "output":
                        data = effect.value.output()
                        offset += len(data)
                        yield Emit(data)
            except StopIteration:
                return
            except (Unreachable, Problem) as error:
                yield patience.bad(error)

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

    # ---- 作业步 ----

    @plain
    def create_step(self, job_id: JobId, step: Mapping[str, Any]) -> "Request[Json]":
        """在运行中的作业里建立一个作业步；字段见 docs/api.md。此刻放不下抛 StepBusy。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps", dict(step))

    @many
    def steps(self, job_ids: Sequence[str] | None = None, *, live: bool = False) -> "Request[JobStep]":
        """这些作业的全部作业步；不给作业号是正在运行的全部。live 为真时先请节点采样一次。"""
        query = {} if job_ids is None else {"job_id": ",".join(job_ids), **({"live": "true"} if live else {})}
        return Request("GET", "/jobs/steps", query=query, within="steps")

    @one
    def step(self, job_id: JobId, step_id: int) -> "Request[JobStep]":
        """一个作业步。"""
        return Request("GET", f"/jobs/{segment(job_id)}/steps/{step_id}")

    @plain
    def relaunch_step(self, job_id: JobId, step_id: int) -> "Request[Json]":
        """节点没有按时连过来：把启动的消息再送一遍。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps/{step_id}/launch")

    @plain
    def attach_step(self, job_id: JobId, step_id: int, connection: Json) -> "Request[Json]":
        """请各节点再连一个客户（sattach）；返回还在跑的节点与任务。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps/{step_id}/attach", connection)

    @plain
    def signal_step(self, job_id: JobId, step_id: int, signal: str) -> "Request[Json]":
        """给作业步发信号；KILL 结束它。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps/{step_id}/signal", {"signal": signal})

    @plain
    def update_step(self, job_id: JobId, step_id: int, time_limit: int | None) -> "Request[Json]":
        """改作业步自己的时限（秒，None 是不限）。"""
        return _json("PATCH", f"/jobs/{segment(job_id)}/steps/{step_id}", {"time_limit": time_limit})

    @one
    def release_allocation(self, job_id: JobId, exit_status: int = 0) -> "Request[Acted]":
        """交还没有脚本的分配。"""
        path = f"/jobs/{segment(job_id)}/release_allocation"
        return Request("POST", path, body={"exit_status": exit_status})


def _controlled(answer: "Answer") -> tuple[list[Json], dict[str, Problem]]:
    found = answer.json()
    errors = {each["job_id"]: Problem(each["status"], each["code"], each["detail"]) for each in found["errors"]}
    return found["jobs"], errors


def _log(job_id: JobId, stream: Stream) -> str:
    return f"/jobs/{segment(job_id)}/logs/{stream}"


def _json(method: str, path: str, body: Any = None) -> "Request[Json]":
    return Request(method, path, body=body, read=lambda answer: dict(answer.json()))


def _get(path: str, query: Mapping[str, Any] | None = None) -> "Request[Json]":
    return Request("GET", path, query=query or {})


def _rows(page: Any) -> Any:
    """layout=rows 的一页 -> 每个作业一个对象。"""
    names = page.get("fields")
    if names is not None:
        page["jobs"] = [dict(zip(names, row, strict=True)) for row in page["jobs"]]
    return page


def _submit(jobs: list[Submission]) -> Generator[Effect | Emit[str], Any, None]:
    request: Request[list[str]] = Request(
        "POST", "/jobs/submit/batch", body={"jobs": list(jobs)}, keyed=True, key=os.urandom(16).hex(), within="job_ids"
    )
    # 断了、服务器暂时不在：用同一个键再送，不会多出作业。
    job_ids = yield from steadily(request)
    for job_id in job_ids:
        yield Emit(str(job_id))


def _finished(job_ids: Iterable[JobId], timeout_s: float | None) -> "Generator[Effect | Emit[Job], Any, None]":
    left = [str(job_id) for job_id in dict.fromkeys(job_ids)]
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while left:
        live = yield from _live(left)
        ended = [job_id for job_id in left if job_id not in live]
        for start in range(0, len(ended), ASK_MOST):
            part = ended[start : start + ASK_MOST]
            for job in (yield from _whole(part)):
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
            page = yield from steadily(_get("/jobs", asked))
            found.update(str(job[name]) for job in page["jobs"] for name in ("job_id", "array_job_id") if job[name])
            cursor = page["next_cursor"]
    for job_id in job_ids:
        # 12_3、12_[1-5]：由服务器认。
        if not job_id.isdecimal():
            page = yield from steadily(_get("/jobs", {**query, "job_id": job_id, "limit": 1}))
            if page["jobs"]:
                found.add(job_id)
    return found


def _whole(job_ids: list[str]) -> Generator[Effect, Any, list[Json]]:
    """这些结束了的作业的行，次序与给的相同。"""
    page = yield from steadily(_get("/jobs", {"job_id": job_ids, "limit": 10_000}))
    rows = {job["job_id"]: job for job in page["jobs"]}
    found = []
    for job_id in job_ids:
        # 数组任务的写法、数组太大一页没有装下的；没有的在这里抛 JobNotFound。
        row = rows.get(job_id) or (yield from steadily(_get(f"/jobs/{segment(job_id)}")))
        found.append(row)
    return found
