"""收尾：牧守进程报来的结束 -> 数据库里的结束。备好（并行）→ 成批提交 → 归还核与卡 → 确认。

数据库不在就留着重试；数据库收不下的（数据自己的错）停放进死信，别的照样送出。
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from scns_conductor.core.states import JobState
from scns_conductor.statements.ends import Ended, JobEnd, OutputTail, commit_ends
from scns_conductor.worker.agent.database_faults import is_passing, reason_of
from scns_conductor.worker.agent.dead_letters import DeadLetters
from scns_conductor.worker.agent.end_causes import end_cause
from scns_conductor.worker.agent.end_preparation import EndPreparation, Prepared
from scns_conductor.worker.host.user_files import read_range
from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS

BATCH_ENDS = 500
REST_S = 0.002
LOOK_S = 5.0
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0

# 一条结束记录至少要有的。
NEEDED = {"id", "key", "job_id", "attempt", "step", "cause"}
# 一条写不进去时的错：数据库的，或记录自己不合式；别的错是程序的，不在这里兜住。
DATA_ERRORS = (sa.exc.SQLAlchemyError, KeyError, TypeError, ValueError)

logger = logging.getLogger(__name__)


def end_age_s(end: dict[str, Any], *, boot_id: str, boot_now: float) -> float | None:
    """结束距今多少秒；按开机秒数算，不受校时影响。重启过机器的无从得知，返回 None。"""
    if end.get("boot_id") != boot_id or end["cause"] == "reboot":
        return None
    return max(0.0, boot_now - float(end["ended_boot"]))


def job_end(end: dict[str, Any], *, actor: str, end_time: float | None, outputs: Sequence[OutputTail]) -> JobEnd:
    """一条结束记录 -> 数据库里的结束。end_time 是数据库时钟下的 Unix 秒，None 表示现在。"""
    cause, found = end["cause"], end_cause(end)
    usage = end.get("usage") or {}
    return JobEnd(
        job_id=end["job_id"],
        restart_count=end["attempt"],
        launch_id=end.get("launch_id"),
        state=found.job,
        cause="node_fail" if found.job is JobState.NODE_FAIL and cause != "launch_failed" else cause,
        actor=actor,
        end_time=end_time,
        exit_status=end.get("exit_status"),
        exit_signal=end.get("exit_signal"),
        message=clean_text(end.get("message")),
        requeue_if_allowed=found.requeues,
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
    launch_id: int | None = None,
    hold: bool = False,
) -> dict[str, Any]:
    """代理自己造的结束：没有进程可等的作业（被拒、未启动就取消、找不到进程）也走同一条路。"""
    return {
        "id": None,
        "key": f"{job_id}.{attempt}.batch",
        "job_id": job_id,
        "attempt": attempt,
        "launch_id": launch_id,
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
    """一个线程：攒一批备好的结束，写进数据库，再向牧守进程确认。

    epilog 在写之前对每个启动过的作业运行（各作业并行）；committed 在提交之后立即收到这一批（归还核与卡）；
    after_commit 随后收到这一批与真正生效的；record_steps 写下作业步（不是作业）的结局；
    on_parked 收到停放的一条与原因。
    """

    def __init__(
        self,
        engine: Engine,
        *,
        actor: str,
        tail_bytes: int,
        dead_letters: DeadLetters,
        end_time: Callable[[dict[str, Any]], float | None],
        epilog: Callable[[dict[str, Any]], None] | None,
        committed: Callable[[list[dict[str, Any]]], None],
        after_commit: Callable[[list[dict[str, Any]], list[Ended]], None],
        acknowledge: Callable[[list[int]], None],
        record_steps: Callable[[list[dict[str, Any]]], None],
        on_parked: Callable[[dict[str, Any], str], None],
    ) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._actor = actor
        self._dead_letters = dead_letters
        self._end_time = end_time
        self._committed = committed
        self._after_commit = after_commit
        self._acknowledge = acknowledge
        self._record_steps = record_steps
        self._on_parked = on_parked
        self._preparation = EndPreparation(
            epilog=epilog,
            read_tails=(lambda end: read_tails(end, tail_bytes)) if tail_bytes > 0 else None,
            ready=lambda prepared: self._queue.put(prepared),
        )
        self._queue: queue.SimpleQueue[list[Prepared] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pending: dict[tuple[int, int], int] = {}
        self._in_hand: set[tuple[str, int | None]] = set()
        self._pending_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="finisher", daemon=True)

    def start(self) -> None:
        """开始。"""
        self._thread.start()

    def put(self, ends: list[dict[str, Any]]) -> None:
        """收下一批结束记录（任何线程）。缺了要紧的项（日志坏了、别的版本写的）的停放，不当成别的。"""
        whole = [end for end in ends if end.keys() >= NEEDED]
        for end in ends:
            if not end.keys() >= NEEDED:
                logger.error("end_rejected", extra={"key": end.get("key"), "error": "记录不完整"})
                self._dead_letters.park(end, "记录不完整")
                self._on_parked(end, "记录不完整")
        with self._pending_lock:
            # 牧守进程重连之后会再送：手里正有的（也许 epilog 还在跑）不再收一遍。
            whole = [end for end in whole if end["id"] is None or (end["key"], end["id"]) not in self._in_hand]
            for end in whole:
                self._in_hand.add((end["key"], end["id"]))
                owner = (end["job_id"], end["attempt"])
                self._pending[owner] = self._pending.get(owner, 0) + 1
        steps: list[Prepared] = [(end, []) for end in whole if end["step"] not in HOLDER_STEPS]
        if steps:
            self._queue.put(steps)
        self._preparation.put([end for end in whole if end["step"] in HOLDER_STEPS])

    def pending(self) -> set[tuple[int, int]]:
        """收下了、还没有提交的（作业号，尝试）。"""
        with self._pending_lock:
            return set(self._pending)

    def parked(self) -> set[tuple[int, int]]:
        """数据库收不下、停放着的（作业号，尝试）。"""
        return self._dead_letters.owners()

    def stop(self, wait_s: float) -> None:
        """停止；还没提交的不丢，牧守进程留着，下次再送。"""
        self._stopping.set()
        self._preparation.close()
        self._queue.put(None)
        self._thread.join(timeout=wait_s)

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            if batch and not self._deliver(batch):
                return
            # 来得密时一次提交多带几个。停止时不等。
            self._stopping.wait(REST_S)

    def _forget(self, ends: list[dict[str, Any]]) -> None:
        with self._pending_lock:
            for end in ends:
                self._in_hand.discard((end["key"], end["id"]))
                owner = (end["job_id"], end["attempt"])
                self._pending[owner] -= 1
                if not self._pending[owner]:
                    del self._pending[owner]
        holders = sum(end["step"] in HOLDER_STEPS for end in ends)
        if holders:
            self._preparation.written(holders)

    def _take(self) -> list[Prepared] | None:
        due_s = self._preparation.due_s()
        if due_s == 0.0:
            self._preparation.expire()
        try:
            # 睡下之后才开始读的，也要按时醒来看它：LOOK_S 比一次读等的短。
            first = self._queue.get(timeout=LOOK_S if due_s is None else min(due_s, LOOK_S))
        except queue.Empty:
            return []
        if first is None:
            return None
        batch = first
        while len(batch) < BATCH_ENDS:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            batch += more
        return batch

    def _deliver(self, batch: list[Prepared]) -> bool:
        """写进数据库并确认一批；停止时放弃返回 False（记录还在牧守进程那里）。作业步在它的作业之前。"""
        steps = [item for item in batch if item[0]["step"] not in HOLDER_STEPS]
        holders = [item for item in batch if item[0]["step"] in HOLDER_STEPS]
        return self._write(steps, self._commit_steps) and self._write(holders, self._commit)

    def _write(self, batch: list[Prepared], commit: Callable[[list[Prepared]], list[Ended]]) -> bool:
        """反复写到成功为止；写不进去的拆成两半，直到找出那一条。停止时放弃返回 False。"""
        delay = FIRST_RETRY_S
        while batch:
            try:
                ended = commit(batch)
            except DATA_ERRORS as error:
                if not is_passing(error):
                    return self._write_apart(batch, commit, reason_of(error))
                logger.warning("ends_commit_retry", extra={"ends": len(batch), "error": reason_of(error)})
            else:
                self._written([end for end, _ in batch], ended)
                return True
            if self._stopping.wait(delay):
                return False
            delay = min(LAST_RETRY_S, delay * 2)
        return True

    def _write_apart(self, batch: list[Prepared], commit: Callable[[list[Prepared]], list[Ended]], reason: str) -> bool:
        if len(batch) > 1:
            half = len(batch) // 2
            return self._write(batch[:half], commit) and self._write(batch[half:], commit)
        end, tails = batch[0]
        logger.error("end_rejected", extra={"key": end["key"], "error": reason})
        if tails or end.get("message") is not None:
            # 多半是输出或说明里有数据库收不下的内容：结局要紧，内容可舍。
            return self._write([({**end, "message": None}, [])], commit)
        self._park(end, reason)
        return True

    def _park(self, end: dict[str, Any], reason: str) -> None:
        """停放：不向牧守进程确认，重启代理就会再送；核与卡不归还，数据库里的份额也还占着。"""
        self._dead_letters.park(end, reason)
        self._forget([end])
        self._on_parked(end, reason)

    def _commit(self, prepared: list[Prepared]) -> list[Ended]:
        ends = [job_end(end, actor=self._actor, end_time=self._end_time(end), outputs=tails) for end, tails in prepared]
        if any(tails for _, tails in prepared):
            with self._engine.begin() as connection:
                return commit_ends(connection, ends)
        # 只有一条语句：它自成一个事务，省去 BEGIN 与 COMMIT 的两次往返。
        with self._single.connect() as connection:
            return commit_ends(connection, ends)

    def _commit_steps(self, prepared: list[Prepared]) -> list[Ended]:
        self._record_steps([end for end, _ in prepared])
        return []

    def _written(self, ends: list[dict[str, Any]], ended: list[Ended]) -> None:
        """写成了。调度器此刻就可以把它们的核与卡给别人，所以先归还。"""
        holders = [end for end in ends if end["step"] in HOLDER_STEPS]
        if holders:
            self._committed(holders)
            self._log_unapplied(holders, ended)
            self._after_commit(holders, ended)
        self._dead_letters.delivered(end["key"] for end in ends)
        # 代理自己造的结束（没有启动的作业）没有编号，不必确认。
        self._acknowledge([end["id"] for end in ends if end["id"] is not None])
        self._forget(ends)

    def _log_unapplied(self, holders: list[dict[str, Any]], ended: list[Ended]) -> None:
        """没有作业认领的结束：多半是重复的；数据库恢复过的，它的作业已经没有了，结局只在这里。"""
        applied = {(job.job_id, job.restart_count) for job in ended}
        for end in holders:
            if (end["job_id"], end["attempt"]) not in applied:
                fields = {name: end.get(name) for name in ("key", "cause", "exit_status", "exit_signal")}
                logger.info("end_without_job", extra=fields)


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
