"""收尾：牧守进程报来的结束 -> 数据库里的结束。成批提交，提交之后才确认；数据库不在就留着重试。"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from scns_conductor.core.states import JobState
from scns_conductor.worker.ends import Ended, JobEnd, OutputTail, commit_ends
from scns_conductor.worker.launch_spec import HOLDER_STEPS
from scns_conductor.worker.user_files import read_range

BATCH_ENDS = 500
REST_S = 0.002
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0

logger = logging.getLogger(__name__)

# 牧守进程的原因 -> 状态与能否重新排队；exit 另看退出码。有人要求过去向的，以数据库里的要求为准。
_OUTCOMES: dict[str, tuple[JobState, bool]] = {
    "timeout": (JobState.TIMEOUT, False),
    "oom": (JobState.OUT_OF_MEMORY, False),
    "killed": (JobState.FAILED, False),
    "cancel": (JobState.CANCELLED, False),
    "preempt": (JobState.PREEMPTED, False),
    "deadline": (JobState.DEADLINE, False),
    "requeue": (JobState.CANCELLED, True),
    "shutdown": (JobState.CANCELLED, True),
    "stale": (JobState.CANCELLED, False),
    # 还没有启动，节点交还：从来没有跑过，不许重新排队的也回到队列。
    "give_back": (JobState.PENDING, False),
    "unseen": (JobState.NODE_FAIL, True),
    "reboot": (JobState.NODE_FAIL, True),
}


def end_age_s(end: dict[str, Any], *, boot_id: str, boot_now: float) -> float | None:
    """结束距今多少秒；按开机秒数算，不受校时影响。重启过机器的无从得知，返回 None。"""
    if end.get("boot_id") != boot_id or end["cause"] == "reboot":
        return None
    return max(0.0, boot_now - float(end["ended_boot"]))


def job_end(end: dict[str, Any], *, actor: str, end_time: float | None, outputs: Sequence[OutputTail]) -> JobEnd:
    """一条结束记录 -> 数据库里的结束。end_time 是数据库时钟下的 Unix 秒，None 表示现在。"""
    cause, status, number = end["cause"], end.get("exit_status"), end.get("exit_signal")
    if cause == "exit":
        state, requeue = (JobState.FAILED if status or number else JobState.COMPLETED), False
    elif cause == "launch_failed":
        on_node = bool(end.get("on_node"))
        state, requeue = (JobState.NODE_FAIL if on_node else JobState.FAILED), on_node
    else:
        state, requeue = _OUTCOMES.get(cause, (JobState.FAILED, False))
    usage = end.get("usage") or {}
    return JobEnd(
        job_id=end["job_id"],
        restart_count=end["attempt"],
        state=state,
        cause="node_fail" if state is JobState.NODE_FAIL and cause != "launch_failed" else cause,
        actor=actor,
        end_time=end_time,
        exit_status=status,
        exit_signal=number,
        message=clean_text(end.get("message")),
        requeue_if_allowed=requeue,
        hold=bool(end.get("hold")),
        cpu_user_s=usage.get("user_s"),
        cpu_system_s=usage.get("system_s"),
        max_rss_kb=usage.get("max_rss_kb"),
        read_bytes=usage.get("read_bytes"),
        written_bytes=usage.get("written_bytes"),
        outputs=tuple(outputs),
    )


def clean_text(text: str | None) -> str | None:
    """PostgreSQL 的 text 里不能有 NUL，也不能有不成对的代理字符。"""
    if text is None:
        return None
    return text.replace("\0", "�").encode("utf-8", "replace").decode()


def read_tails(end: dict[str, Any], limit: int) -> list[OutputTail]:
    """以作业用户的身份读输出的尾部；读不到（已删、不是普通文件、没有权限）的那一路就没有。空文件不占一行。"""
    if limit <= 0:
        return []
    paths = [("stdout", end.get("stdout"))]
    if end.get("stderr") != end.get("stdout"):
        paths.append(("stderr", end.get("stderr")))
    tails = []
    for stream, path in paths:
        if path is None:
            continue
        with contextlib.suppress(OSError, ValueError):
            content, total = read_range(
                path, -limit, limit, uid=end.get("uid"), gid=end.get("gid"), groups=end.get("groups")
            )
            if total:
                tails.append(OutputTail(stream, clean_text(path) or "", content, total))
    return tails


def own_end(
    job_id: int,
    attempt: int,
    cause: str,
    message: str | None,
    *,
    boot_id: str,
    on_node: bool = False,
    hold: bool = False,
) -> dict[str, Any]:
    """代理自己造的结束：没有进程可等的作业（被拒、未启动就取消、找不到进程）也走同一条路。"""
    return {
        "id": None,
        "key": f"{job_id}.{attempt}.batch",
        "job_id": job_id,
        "attempt": attempt,
        "step": "batch",
        "cause": cause,
        "message": message,
        "on_node": on_node,
        "hold": hold,
        "exit_status": 1 if cause == "launch_failed" else None,
        "exit_signal": 0 if cause == "launch_failed" else None,
        "boot_id": boot_id,
        "ended_boot": time.clock_gettime(time.CLOCK_BOOTTIME),
    }


class Finisher:
    """一个线程：攒一批结束，写进数据库，再向牧守进程确认。

    before_commit 在提交之前对每个结束调用（跑 epilog、归还核）；after_commit 在提交之后收到真正生效的；
    record_steps 写下作业步（不是作业）的结局。
    """

    def __init__(
        self,
        engine: Engine,
        *,
        actor: str,
        tail_bytes: int,
        end_time: Callable[[dict[str, Any]], float | None],
        before_commit: Callable[[list[dict[str, Any]]], None],
        after_commit: Callable[[list[dict[str, Any]], list[Ended]], None],
        acknowledge: Callable[[list[int]], None],
        record_steps: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._actor = actor
        self._tail_bytes = tail_bytes
        self._end_time = end_time
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._acknowledge = acknowledge
        self._record_steps = record_steps
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pending: dict[tuple[int, int], int] = {}
        self._pending_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="finisher", daemon=True)

    def start(self) -> None:
        """开始。"""
        self._thread.start()

    def put(self, ends: list[dict[str, Any]]) -> None:
        """收下一批结束记录（任何线程）。"""
        with self._pending_lock:
            for end in ends:
                owner = (end["job_id"], end["attempt"])
                self._pending[owner] = self._pending.get(owner, 0) + 1
        for end in ends:
            self._queue.put(end)

    def pending(self) -> set[tuple[int, int]]:
        """收下了、还没有提交的（作业号，尝试）。"""
        with self._pending_lock:
            return set(self._pending)

    def stop(self, wait_s: float) -> None:
        """停止；还没提交的不丢，牧守进程留着，下次再送。"""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(timeout=wait_s)

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            if batch and not self._deliver(batch):
                return
            self._forget(batch)
            # 来得密时一次提交多带几个。停止时不等。
            self._stopping.wait(REST_S)

    def _forget(self, batch: list[dict[str, Any]]) -> None:
        with self._pending_lock:
            for end in batch:
                owner = (end["job_id"], end["attempt"])
                self._pending[owner] -= 1
                if not self._pending[owner]:
                    del self._pending[owner]

    def _take(self) -> list[dict[str, Any]] | None:
        first = self._queue.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH_ENDS:
            try:
                end = self._queue.get_nowait()
            except queue.Empty:
                break
            if end is None:
                self._queue.put(None)
                break
            batch.append(end)
        return batch

    def _deliver(self, batch: list[dict[str, Any]]) -> bool:
        """提交并确认一批；停止时放弃返回 False（记录还在牧守进程那里）。"""
        holders = [end for end in batch if end["step"] in HOLDER_STEPS]
        self._before_commit(holders)
        if not self._record_until_done([end for end in batch if end["step"] not in HOLDER_STEPS]):
            return False
        ended = self._commit_until_done(holders)
        if ended is None:
            return False
        self._after_commit(holders, ended)
        # 代理自己造的结束（没有启动的作业）没有编号，不必确认。
        self._acknowledge([end["id"] for end in batch if end["id"] is not None])
        return True

    def _commit_until_done(self, holders: list[dict[str, Any]]) -> list[Ended] | None:
        delay = FIRST_RETRY_S
        prepared = [(end, read_tails(end, self._tail_bytes)) for end in holders]
        while True:
            try:
                return self._commit(prepared)
            except (OperationalError, InterfaceError) as error:
                logger.warning("ends_commit_retry", extra={"ends": len(holders), "error": str(error.orig)})
            except DBAPIError as error:
                if len(prepared) > 1:
                    return self._commit_one_by_one(prepared)
                logger.error("end_rejected", extra={"key": holders[0]["key"], "error": str(error.orig)})
                # 多半是输出或说明里有数据库收不下的内容：结局要紧，内容可舍。
                prepared = [({**end, "message": None}, []) for end, _ in prepared]
            if self._stopping.wait(delay):
                return None
            delay = min(LAST_RETRY_S, delay * 2)

    def _commit_one_by_one(self, prepared: list[tuple[dict[str, Any], list[OutputTail]]]) -> list[Ended] | None:
        ended: list[Ended] = []
        for end, _ in prepared:
            one = self._commit_until_done([end])
            if one is None:
                return None
            ended.extend(one)
        return ended

    def _commit(self, prepared: list[tuple[dict[str, Any], list[OutputTail]]]) -> list[Ended]:
        if not prepared:
            return []
        ends = [job_end(end, actor=self._actor, end_time=self._end_time(end), outputs=tails) for end, tails in prepared]
        if any(tails for _, tails in prepared):
            with self._engine.begin() as connection:
                return commit_ends(connection, ends)
        # 只有一条语句：它自成一个事务，省去 BEGIN 与 COMMIT 的两次往返。
        with self._single.connect() as connection:
            return commit_ends(connection, ends)

    def _record_until_done(self, steps: list[dict[str, Any]]) -> bool:
        """作业步的结局；停止时放弃返回 False（记录还在牧守进程那里）。"""
        delay = FIRST_RETRY_S
        while steps:
            try:
                self._record_steps(steps)
                return True
            except (OperationalError, InterfaceError) as error:
                logger.warning("steps_commit_retry", extra={"ends": len(steps), "error": str(error.orig)})
            except DBAPIError as error:
                # 作业步的结局只是回答；写不进去也不能挡住后面作业的结束。
                logger.error("step_end_rejected", extra={"ends": len(steps), "error": str(error.orig)})
                return True
            if self._stopping.wait(delay):
                return False
            delay = min(LAST_RETRY_S, delay * 2)
        return True


class NodeClock:
    """把本机的时刻换算成数据库时钟的 Unix 秒：心跳时量得两者之差。"""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        # 数据库时钟减去开机秒数；还没有量到时用本机的钟。
        self._offset: float | None = None

    def measure(self, database_now: float, boot_before: float, boot_after: float) -> None:
        """一次往返：数据库报的现在，落在 boot_before 与 boot_after 之间。"""
        self._offset = database_now - (boot_before + boot_after) / 2

    def boot_time(self, fallback: float) -> float:
        """开机时刻在数据库时钟下的 Unix 秒；还没有量到时用 fallback。"""
        return self._offset if self._offset is not None else fallback

    def end_time(self, end: dict[str, Any]) -> float | None:
        """结束在数据库时钟下的时刻；无从得知返回 None。"""
        boot_now = time.clock_gettime(time.CLOCK_BOOTTIME)
        age = end_age_s(end, boot_id=self._boot_id, boot_now=boot_now)
        if age is None:
            return None
        now = boot_now + self._offset if self._offset is not None else time.time()
        return now - age
