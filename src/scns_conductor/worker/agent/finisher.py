"""收尾：牧守进程报来的结束 -> 数据库里的结束。备好（并行）→ 成批提交 → 归还核与卡 → 确认。

数据库不在就留着重试；数据库收不下的（数据自己的错）停放进死信，别的照样送出。
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from scns_conductor.core.database import DATABASE_TROUBLE
from scns_conductor.core.errors import first_line
from scns_conductor.core.states import JobState
from scns_conductor.statements.ends import Ended, JobEnd, OutputTail, commit_ends
from scns_conductor.statements.row_locks import gave_up_waiting, lock_free_jobs
from scns_conductor.worker.agent.database_faults import is_passing
from scns_conductor.worker.agent.dead_letters import DeadLetters
from scns_conductor.worker.agent.end_causes import end_cause
from scns_conductor.worker.agent.end_preparation import EndPreparation, Prepared
from scns_conductor.worker.agent.other_nodes import OtherNodes
from scns_conductor.worker.agent.timings import AgentTimings
from scns_conductor.worker.host.user_files import read_range
from scns_conductor.worker.wire.end_record import EndRecord

BATCH_ENDS = 500
LOOK_S = 5.0
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
# 作业的行被别的会话锁着的结束，隔多久（秒）再看一眼放开了没有；别的不等它。
LOCKED_AGAIN_S = 1.0

# 一条写不进去时的错：数据库的，或记录里的值不合式；别的错是程序的，不在这里兜住。
DATA_ERRORS = (*DATABASE_TROUBLE, TypeError, ValueError)

logger = logging.getLogger(__name__)


def end_age_s(end: EndRecord, *, boot_id: str, boot_now_s: float) -> float | None:
    """结束距今多少秒；按开机秒数算，不受校时影响。重启过机器的无从得知，返回 None。"""
    if end.boot_id != boot_id or end.cause == "reboot" or end.ended_boot_s is None:
        return None
    return max(0.0, boot_now_s - end.ended_boot_s)


def job_end(
    end: EndRecord,
    *,
    actor: str,
    end_unix_s: float | None,
    outputs: Sequence[OutputTail],
    start_unix_s: float | None = None,
) -> JobEnd:
    """一条结束记录 -> 数据库里的结束。

    end_unix_s 是数据库时钟下的 Unix 秒，None 表示现在；start_unix_s 是真的开始的时刻，None 是数据库里记的。
    """
    cause, found, usage = end.cause, end_cause(end), end.usage
    return JobEnd(
        job_id=end.job_id,
        restart_count=end.attempt,
        launch_id=end.launch_id,
        state=found.job,
        cause="node_fail" if found.job is JobState.NODE_FAIL and cause != "launch_failed" else cause,
        actor=actor,
        end_time=end_unix_s,
        exit_status=end.exit_status,
        exit_signal=end.exit_signal,
        message=clean_text(end.message),
        requeue_if_allowed=found.requeues,
        hold=end.hold,
        cpu_user_s=usage.user_s if usage is not None else None,
        cpu_system_s=usage.system_s if usage is not None else None,
        max_rss_kb=usage.max_rss_kb if usage is not None else None,
        read_bytes=usage.read_bytes if usage is not None else None,
        written_bytes=usage.written_bytes if usage is not None else None,
        outputs=tuple(outputs),
        true_start=start_unix_s,
    )


def _start_time(end: EndRecord, end_unix_s: float | None) -> float | None:
    """在接力的链上等过的，真的开始的时刻；没有等过的、没有启动过的、说不准的是 None。"""
    if not end.queued or end.pid is None or end_unix_s is None:
        return None
    if end.started_boot_s is None or end.ended_boot_s is None:
        return None
    return end_unix_s - (end.ended_boot_s - end.started_boot_s)


def clean_text(text: str | None) -> str | None:
    """PostgreSQL 的 text 里不能有 NUL，也不能有不成对的代理字符。"""
    if text is None:
        return None
    return text.replace("\0", "�").encode("utf-8", "replace").decode()


def read_tails(end: EndRecord, limit_bytes: int) -> list[OutputTail]:
    """以作业用户的身份读输出的尾部；读不到（已删、不是普通文件、没有权限）的那一路就没有。空文件不占一行。"""
    if limit_bytes <= 0:
        return []
    paths = [("stdout", end.stdout)]
    if end.stderr != end.stdout:
        paths.append(("stderr", end.stderr))
    tails = []
    for stream, path in paths:
        if path is None:
            continue
        with contextlib.suppress(OSError, ValueError):
            content, total, _ = read_range(path, -limit_bytes, limit_bytes, uid=end.uid, gid=end.gid, groups=end.groups)
            if total:
                tails.append(OutputTail(stream, clean_text(path) or "", content, total))
    return tails


class Finisher:
    """一个线程：攒一批备好的结束，写进数据库，再向牧守进程确认。

    epilog 在写之前对每个启动过的作业运行（各作业并行）；committed 在提交之后立即收到这一批（归还核与卡）；
    after_commit 随后收到这一批与真正生效的；record_steps 写下作业步（不是作业）的结局；
    on_parked 收到停放的一条的键与原因；relay 是接力（relay.Relay.commit），没有写返回 None；
    rest_s 是两次提交之间歇几秒；others 留着还不能写的。
    """

    def __init__(
        self,
        engine: Engine,
        *,
        actor: str,
        tail_bytes: int,
        others: OtherNodes,
        dead_letters: DeadLetters,
        end_time: Callable[[EndRecord], float | None],
        epilog: Callable[[EndRecord], None] | None,
        committed: Callable[[list[EndRecord]], None],
        after_commit: Callable[[list[EndRecord], list[Ended]], None],
        acknowledge: Callable[[list[EndRecord]], None],
        record_steps: Callable[[list[EndRecord]], None],
        on_parked: Callable[[str, str], None],
        timings: AgentTimings,
        relay: Callable[[Sequence[EndRecord], Sequence[JobEnd]], list[Ended] | None],
        rest_s: Callable[[], float],
    ) -> None:
        self._relay = relay
        self._rest_s = rest_s
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._actor = actor
        self._others = others
        self._dead_letters = dead_letters
        self._end_time = end_time
        self._committed = committed
        self._after_commit = after_commit
        self._acknowledge = acknowledge
        self._record_steps = record_steps
        self._on_parked = on_parked
        self._timings = timings
        self._preparation = EndPreparation(
            epilog=epilog,
            read_tails=(lambda end: read_tails(end, tail_bytes)) if tail_bytes > 0 else None,
            ready=lambda prepared: self._queue.put(prepared),
        )
        self._queue: queue.SimpleQueue[list[Prepared] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pending: dict[tuple[int, int], int] = {}
        self._in_hand: set[tuple[str, int | None]] = set()
        # 行被别人锁着的，到这个时刻（单调秒）再看。
        self._locked: list[Prepared] = []
        self._look_at_locked = 0.0
        self._pending_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="finisher", daemon=True)

    def start(self) -> None:
        """开始。"""
        self._thread.start()

    def put_unreadable(self, wire: object, reason: str) -> None:
        """牧守进程送来的一条读不懂（日志坏了、别的版本写的）：停放，不当成别的。"""
        key = self._dead_letters.park_unreadable(wire, reason)
        logger.error("end_rejected", extra={"key": key, "error": reason})
        self._on_parked(key, reason)

    def put(self, ends: list[EndRecord]) -> None:
        """收下一批结束记录（任何线程）。"""
        with self._pending_lock:
            # 牧守进程重连之后会再送：手里正有的（也许 epilog 还在跑）不再收一遍。
            whole = [end for end in ends if end.id is None or (end.key, end.id) not in self._in_hand]
            for end in whole:
                self._in_hand.add((end.key, end.id))
                self._pending[end.owner] = self._pending.get(end.owner, 0) + 1
        steps: list[Prepared] = [(end, []) for end in whole if not end.is_holder]
        if steps:
            self._queue.put(steps)
        self._preparation.put([end for end in whole if end.is_holder])

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
            self._stopping.wait(self._rest_s())

    def _forget(self, ends: list[EndRecord]) -> None:
        with self._pending_lock:
            for end in ends:
                self._in_hand.discard((end.key, end.id))
                self._pending[end.owner] -= 1
                if not self._pending[end.owner]:
                    del self._pending[end.owner]
        holders = sum(end.is_holder for end in ends)
        if holders:
            self._preparation.written(holders)

    def _take(self) -> list[Prepared] | None:
        due_s = self._preparation.due_s()
        if due_s == 0.0:
            self._preparation.expire()
        if self._locked and time.monotonic() >= self._look_at_locked and (unlocked := self._unlocked()):
            return unlocked
        if waited := self._others.again():
            return waited
        # 睡下之后才开始读的，也要按时醒来看它：LOOK_S 比一次读等的短。
        looks = [LOCKED_AGAIN_S if self._locked else LOOK_S, due_s, self._others.look_s]
        try:
            first = self._queue.get(timeout=min(look_s for look_s in looks if look_s is not None))
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
        steps = [item for item in batch if not item[0].is_holder]
        holders = self._others.without_waiting([item for item in batch if item[0].is_holder])
        return self._write(steps, self._commit_steps) and self._write(holders, self._commit)

    def _write(self, batch: list[Prepared], commit: Callable[[list[Prepared]], list[Ended]]) -> bool:
        """反复写到成功为止；写不进去的拆成两半，直到找出那一条。停止时放弃返回 False。"""
        delay = FIRST_RETRY_S
        while batch:
            try:
                with self._timings.commit.measure():
                    ended = commit(batch)
            except DATA_ERRORS as error:
                if not is_passing(error):
                    return self._write_apart(batch, commit, first_line(error))
                logger.warning("ends_commit_retry", extra={"ends": len(batch), "error": first_line(error)})
                if isinstance(error, sa.exc.DBAPIError) and gave_up_waiting(error):
                    batch = self._without_locked(batch)
            else:
                self._written([end for end, _ in batch], ended)
                return True
            if self._stopping.wait(delay):
                return False
            delay = min(LAST_RETRY_S, delay * 2)
        return True

    def _without_locked(self, batch: list[Prepared]) -> list[Prepared]:
        """等锁等到头了：作业、分配、节点的行被别的会话锁着的先放下，返回其余的。"""
        free = self._free({end.job_id for end, _ in batch})
        locked = [item for item in batch if item[0].job_id not in free]
        if locked:
            jobs = sorted({end.job_id for end, _ in locked})
            logger.warning("ends_locked", extra={"ends": len(locked), "first": jobs[:5]})
            self._locked += locked
            self._look_at_locked = time.monotonic() + LOCKED_AGAIN_S
        return [item for item in batch if item[0].job_id in free]

    def _unlocked(self) -> list[Prepared]:
        """放下的里面，锁放开了的。"""
        self._look_at_locked = time.monotonic() + LOCKED_AGAIN_S
        free = self._free({end.job_id for end, _ in self._locked})
        found = [item for item in self._locked if item[0].job_id in free]
        self._locked = [item for item in self._locked if item[0].job_id not in free]
        return found

    def _free(self, job_ids: set[int]) -> set[int]:
        """没有被别人锁着的；看不成（连接断了）的都算没有。"""
        try:
            with self._single.connect() as connection:
                return lock_free_jobs(connection, job_ids)
        except DATA_ERRORS as error:
            logger.warning("database_unavailable", extra={"error": first_line(error)})
            return job_ids

    def _write_apart(self, batch: list[Prepared], commit: Callable[[list[Prepared]], list[Ended]], reason: str) -> bool:
        if len(batch) > 1:
            half = len(batch) // 2
            return self._write(batch[:half], commit) and self._write(batch[half:], commit)
        end, tails = batch[0]
        logger.error("end_rejected", extra={"key": end.key, "error": reason})
        if tails or end.message is not None:
            # 多半是输出或说明里有数据库收不下的内容：结局要紧，内容可舍。
            return self._write([(end.replace(message=None), [])], commit)
        self._park(end, reason)
        return True

    def _park(self, end: EndRecord, reason: str) -> None:
        """停放：不向牧守进程确认，重启代理就会再送；核与卡不归还，数据库里的份额也还占着。"""
        self._dead_letters.park(end, reason)
        self._forget([end])
        self._on_parked(end.key, reason)

    def _commit(self, prepared: list[Prepared]) -> list[Ended]:
        ends = [
            job_end(
                end,
                actor=self._actor,
                end_unix_s=(ended := self._end_time(end)),
                outputs=tails,
                start_unix_s=_start_time(end, ended),
            )
            for end, tails in prepared
        ]
        relayed = self._relay([end for end, _ in prepared], ends)
        if relayed is not None:
            return relayed
        if any(tails for _, tails in prepared):
            with self._engine.begin() as connection:
                return commit_ends(connection, ends)
        # 只有一条语句：它自成一个事务，省去 BEGIN 与 COMMIT 的两次往返。
        with self._single.connect() as connection:
            return commit_ends(connection, ends)

    def _commit_steps(self, prepared: list[Prepared]) -> list[Ended]:
        self._record_steps([end for end, _ in prepared])
        return []

    def _written(self, ends: list[EndRecord], ended: list[Ended]) -> None:
        """写成了。调度器此刻就可以把它们的核与卡给别人，所以先归还。"""
        holders = [end for end in ends if end.is_holder]
        for end in holders:
            self._timings.count(self._timings.ends, end_cause(end).job)
        if holders:
            self._committed(holders)
            self._log_unapplied(holders, ended)
            self._after_commit(holders, ended)
        self._dead_letters.delivered(end.key for end in ends)
        # 代理自己造的结束（没有启动的作业）没有编号，不必确认。
        self._acknowledge([end for end in ends if end.id is not None])
        self._forget(ends)

    def _log_unapplied(self, holders: list[EndRecord], ended: list[Ended]) -> None:
        """没有作业认领的结束：多半是重复的；数据库恢复过的，它的作业已经没有了，结局只在这里。"""
        applied = {(job.job_id, job.restart_count) for job in ended}
        for end in holders:
            if end.owner not in applied:
                fields = {name: getattr(end, name) for name in ("key", "cause", "exit_status", "exit_signal")}
                logger.info("end_without_job", extra=fields)


class NodeClock:
    """把本机的时刻换算成数据库时钟的 Unix 秒：心跳时量得两者之差。"""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        # 数据库时钟减去开机秒数；还没有量到时用本机的钟。
        self._offset_s: float | None = None

    def measure(self, database_now: float, boot_before: float, boot_after: float) -> None:
        """一次往返：数据库报的现在，落在 boot_before 与 boot_after 之间。"""
        self._offset_s = database_now - (boot_before + boot_after) / 2

    def boot_time(self, fallback: float) -> float:
        """开机时刻在数据库时钟下的 Unix 秒；还没有量到时用 fallback。"""
        return self._offset_s if self._offset_s is not None else fallback

    def end_time(self, end: EndRecord) -> float | None:
        """结束在数据库时钟下的时刻；无从得知返回 None。"""
        boot_now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        age_s = end_age_s(end, boot_id=self._boot_id, boot_now_s=boot_now_s)
        if age_s is None:
            return None
        now_s = boot_now_s + self._offset_s if self._offset_s is not None else time.time()
        return now_s - age_s
