"""节点记得它上次见到的数据库：哪个化身、第几次心跳、发到几号作业。眼前的若不是它、或比它旧，就是恢复过。

记在工作目录的 database.seen 里，写在心跳与认领提交之后，由 OwnDisks 的线程写：盘停住了，心跳、认领不等它。不 fsync：
掉电、写到之前被杀，丢掉的只是几步，宁可少记，不可多记。
心跳计数在节点自己的行里，每次登记、心跳加一：比记得的小，数据库就是退回去了——与有没有作业无关。
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Engine

from scns_conductor.statements.incarnation import (
    LOOK_AT_DATABASE,
    TELL_FOREIGN_PROCESS,
    advance_job_ids,
    change_incarnation,
)

logger = logging.getLogger(__name__)


class DatabaseIncomplete(Exception):
    """表在、内容不全：多半正在恢复。什么也不能断定，稍后再看。"""


@dataclass(frozen=True, slots=True)
class Seen:
    """一次往返看到的。"""

    incarnation: str | None
    beat: int
    last_job_id: int


class DatabaseMemory:
    """changed 为真时，眼前的数据库还没有核对过：与它对不上的进程是外来的。lock 把看与记合成一步。

    write 请别的线程做一件写文件的事，不等。
    """

    def __init__(
        self, engine: Engine, node_name: str, path: Path, write: Callable[[Callable[[], object]], object]
    ) -> None:
        self.lock = threading.RLock()
        self.changed = False
        self.incarnation: str | None = None
        self.beat = 0
        self._highest_job_id = 0
        self._next: Seen | None = None
        self._engine = engine
        self._node = node_name
        self._path = path
        self._write = write
        self._fd = -1
        self._line = b""

    def open(self) -> None:
        """读回上次记得的；读不懂的当作没有。"""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(ValueError):
            incarnation, beat, highest = os.pread(self._fd, 200, 0).decode("ascii", "replace").split()
            self.beat, self._highest_job_id = int(beat), int(highest)
            self.incarnation = incarnation

    def claimed(self, job_ids: Iterable[int]) -> None:
        """认领了这些作业：它们的号，以后的作业不许再用。"""
        highest = max(job_ids, default=0)
        if highest > self._highest_job_id:
            with self.lock:
                self._highest_job_id = highest
                self._save()

    def agrees(self, seen: Seen) -> bool:
        """与记得的是不是同一个、没有退回去的数据库；是就记下。要在 lock 里，看见之后立即调用。

        发现过不是，就一直不是，直到 settle：我们自己的心跳会让退回去的计数又追上来。
        """
        if seen.incarnation is None:
            raise DatabaseIncomplete("数据库里没有化身，多半正在恢复")
        if self.incarnation is not None and (seen.incarnation != self.incarnation or self._behind(seen)):
            self.changed = True
        if self.changed:
            return False
        self.incarnation, self.beat = seen.incarnation, seen.beat
        self._save()
        return True

    def has_changed(self) -> bool:
        """此刻看一眼：数据库是不是换过了。要杀不认识的进程之前问。"""
        with self.lock:
            if not self.changed and self.incarnation is not None:
                seen = self._look()
                if seen.incarnation is None:
                    raise DatabaseIncomplete("数据库里没有化身，多半正在恢复")
                # 看一眼不加一：相等的不算退回去。
                same = seen.incarnation == self.incarnation
                self.changed = not (same and seen.beat >= self.beat and seen.last_job_id >= self._highest_job_id)
            return self.changed

    def replaced(self) -> bool:
        """节点的行没有了：是换了数据库（恢复到了从前），还是只是被管理员删掉了。"""
        with self.lock:
            seen = self._look()
            return seen.incarnation != self.incarnation or seen.last_job_id < self._highest_job_id

    def face(self, seen: Seen) -> None:
        """登记时看到的：对不上就查明怎么回事，退回去了的由我们换化身；核对之后由 settle 记下。"""
        if self.agrees(seen):
            return
        assert seen.incarnation is not None
        incarnation = seen.incarnation
        with self._engine.begin() as connection:
            if incarnation == self.incarnation:
                reason = f"节点 {self._node} 发现数据库退回到了从前"
                incarnation = change_incarnation(
                    connection, old=incarnation, reason=reason, highest_job_id=self._highest_job_id
                )
            elif seen.last_job_id < self._highest_job_id:
                advance_job_ids(connection, self._highest_job_id)
        logger.error(
            "database_changed",
            extra={
                "node": self._node,
                "expected": f"{self.incarnation} beat {self.beat} job {self._highest_job_id}",
                "found": f"{seen.incarnation} beat {seen.beat} job {seen.last_job_id}",
                "incarnation": incarnation,
            },
        )
        self._next = Seen(incarnation, seen.beat, seen.last_job_id)

    def settle(self) -> None:
        """外来的进程都处理过了：从此认这个数据库。"""
        with self.lock:
            if self._next is not None:
                self.incarnation, self.beat = self._next.incarnation, self._next.beat
                self._next, self.changed = None, False
                self._save()

    def tell_jobs(self, job_ids: set[int], *, killed: bool) -> None:
        """同号的作业在数据库里有的，在它的历史里说明节点上还有过旧的进程。"""
        text = "已终止" if killed else "按设置留着"
        message = f"数据库恢复过：节点 {self._node} 上有同号的旧进程，与现在的作业无关，{text}"
        with self._engine.begin() as connection:
            connection.execute(
                TELL_FOREIGN_PROCESS, {"job_ids": sorted(job_ids), "actor": f"agent@{self._node}", "message": message}
            )

    def _look(self) -> Seen:
        with self._engine.begin() as connection:
            return Seen(**connection.execute(LOOK_AT_DATABASE, {"name": self._node}).mappings().one())

    def _behind(self, seen: Seen) -> bool:
        return seen.beat <= self.beat or seen.last_job_id < self._highest_job_id

    def _save(self) -> None:
        # 定长：一次 pwrite 换掉整行。
        self._line = f"{self.incarnation or '-'} {self.beat:020d} {self._highest_job_id:020d}\n".encode()
        self._write(self._write_line)

    def _write_line(self) -> None:
        try:
            os.pwrite(self._fd, self._line, 0)
        except OSError as error:
            logger.warning("database_memory_not_saved", extra={"node": self._node, "error": error.strerror})
