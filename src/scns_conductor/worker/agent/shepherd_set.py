"""本节点的牧守进程：现在的一个，与正在排空的旧的。

升级之后，别的发行版本的牧守进程做完手里的作业就走，新作业都给现在的这一个；正在跑的作业不知道换过人。各有各的
目录（套接字、日志、锁、cgroup）：头一个就在 spool 里，它没有走之前后来的在 spool/shepherd.1、shepherd.2……
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from scns_conductor import __version__
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdError, ShepherdGone
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.frames import JOURNAL_NAME, LOCK_NAME, SOCKET_NAME
from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS, LaunchSpec, split_key
from scns_conductor.worker.wire.record import PROTOCOL_VERSION
from scns_conductor.worker.wire.shepherd_messages import HelloAnswer, LaunchAnswer, Named, Samples

logger = logging.getLogger(__name__)


def shepherd_homes(spool: Path) -> list[Path]:
    """有（或有过，也许还有没交代完的）牧守进程的目录。"""
    # 中间的也许先走了：号不一定连着。
    numbered = (home for home in spool.glob("shepherd.*") if home.suffix[1:].isdigit() and home.is_dir())
    homes = [spool, *sorted(numbered, key=lambda home: int(home.suffix[1:]))]
    return [home for home in homes if (home / JOURNAL_NAME).exists() or (home / SOCKET_NAME).exists()]


class ShepherdSet:
    """attach 得到的一组连接；其中一个断了就整个作废，再 attach 一次。用法同 ShepherdClient。"""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._clients: dict[Path, ShepherdClient] = {}
        self._current = spool
        self._leaving: set[Path] = set()
        self._stopping = False
        # 没有确认的结束是哪一个推来的。
        self._origins: dict[tuple[str, int], Path] = {}
        self._lock = threading.Lock()

    @classmethod
    def attach(
        cls,
        spool: Path,
        node: str,
        *,
        containment: str,
        on_ends: Callable[[list[EndRecord]], None],
        on_bad_end: Callable[[object, str], None],
        on_gone: Callable[[], None],
    ) -> ShepherdSet:
        """连上每一个；死了而日志还在的再启动一个去接管，没有本版的就启动一个。

        没有连成抛 ShepherdGone、ShepherdError、OSError。
        """
        made = cls(spool)

        def connect(home: Path) -> ShepherdClient:
            def hear(ends: list[EndRecord]) -> None:
                with made._lock:
                    made._origins |= {(end.key, end.id): home for end in ends if end.id is not None}
                on_ends(ends)

            def gone() -> None:
                if home not in made._leaving:
                    on_gone()

            client = made._clients[home] = ShepherdClient.connect(
                home, node, containment=containment, on_ends=hear, on_gone=gone, on_bad_end=on_bad_end
            )
            return client

        try:
            found = {home: connect(home).hello() for home in shepherd_homes(spool)}
            mine = [home for home in found if made._is_mine(home, found[home])]
            if mine:
                # 接管了旧日志的也是本版的：作业多的那个留着接新的。
                made._current = max(mine, key=lambda home: len(found[home].running))
            else:
                made._current = made._free_home()
                found[made._current] = connect(made._current).hello()
        except BaseException:
            made.close()
            raise
        for home, hello in found.items():
            if home != made._current:
                fields = {"node": node, "pid": hello.pid, "release": hello.release, "running": len(hello.running)}
                logger.info("shepherd_draining", extra=fields)
        return made

    def _is_mine(self, home: Path, hello: HelloAnswer) -> bool:
        return self._clients[home].version == PROTOCOL_VERSION and hello.release == __version__

    def _free_home(self) -> Path:
        taken = self._clients.keys()
        numbered = (self._spool / f"shepherd.{number}" for number in itertools.count(1))
        return next(home for home in itertools.chain([self._spool], numbered) if home not in taken)

    @property
    def draining(self) -> list[ShepherdClient]:
        """正在排空的。"""
        return [client for home, client in self._clients.items() if home not in (self._current, *self._leaving)]

    @property
    def _each(self) -> list[ShepherdClient]:
        return [self._clients[self._current], *self.draining]

    def state(self) -> HelloAnswer:
        """全部的合在一起；别的项是现在这一个的。正在停止时走了的不算；都走了抛 ShepherdGone。"""
        states = []
        for client in self._each:
            try:
                states.append(client.state())
            except ShepherdGone:
                if not self._stopping:
                    raise
        if not states:
            raise ShepherdGone("牧守进程都走了")
        first, *others = states
        for other in others:
            first.running += other.running
            first.unacknowledged += other.unacknowledged
            first.corrupt_lines += other.corrupt_lines
        return first

    def retire(self) -> None:
        """排空了的请它走；走了的收拾它的目录。"""
        for home, client in list(self._clients.items()):
            if home == self._current:
                continue
            if home in self._leaving:
                if _clear_home(home, numbered=home != self._spool):
                    client.close()
                    del self._clients[home]
                    self._leaving.discard(home)
                    logger.info("shepherd_retired", extra={"home": str(home)})
                continue
            hello = client.state()
            if not hello.running and not hello.unacknowledged:
                self._leaving.add(home)
                client.shutdown(0)

    # ---- 启动：新作业给现在的，作业步跟着它的作业 ----

    def begin_launch(self, specs: Sequence[LaunchSpec]) -> int:
        """请现在的启动一批，不等回答。"""
        return self._clients[self._current].begin_launch(specs)

    def launched(self, request_id: int) -> list[LaunchAnswer]:
        """等 begin_launch 的回答。"""
        return self._clients[self._current].launched(request_id)

    def launch(self, specs: Sequence[LaunchSpec]) -> list[LaunchAnswer]:
        """启动一批，返回每个键的状态。"""
        return [answer for spec in specs for answer in self._holder_of(spec).launch([spec])]

    def _holder_of(self, spec: LaunchSpec) -> ShepherdClient:
        if spec.step not in HOLDER_STEPS:
            owner = (spec.job_id, spec.attempt)
            for client in self.draining:
                if any(split_key(step.key)[:2] == owner for step in client.state().running):
                    return client
        return self._clients[self._current]

    # ---- 别的都问每一个：不在它那里的作业它略过 ----

    def kill(
        self, jobs: Iterable[Named], *, cause: str, message: str | None = None, grace_s: float | None = None
    ) -> list[tuple[int, int]]:
        """结束一批作业，返回真正找到的。"""
        named = list(jobs)
        return [
            found
            for client in self._each
            for found in client.kill(named, cause=cause, message=message, grace_s=grace_s)
        ]

    def signal(self, jobs: Iterable[Named], number: int, target: str = "all") -> int:
        """发信号，返回送到几个进程。"""
        named = list(jobs)
        return sum(client.signal(named, number, target) for client in self._each)

    def disown(self, jobs: Iterable[Named]) -> None:
        """数据库不认识、而要留着的。"""
        named = list(jobs)
        for client in self._each:
            client.disown(named)

    def suspend(self, jobs: Iterable[Named]) -> list[tuple[int, int]]:
        """挂起一批，返回找到的。"""
        named = list(jobs)
        return [found for client in self._each for found in client.suspend(named)]

    def resume(self, jobs: Iterable[Named]) -> list[tuple[int, int]]:
        """恢复一批，返回找到的。"""
        named = list(jobs)
        return [found for client in self._each for found in client.resume(named)]

    def set_time_limit(self, jobs: Iterable[Named], limit_s: float | None) -> None:
        """改时限；None 表示不限。"""
        named = list(jobs)
        for client in self._each:
            client.set_time_limit(named, limit_s)

    def set_step_time_limit(self, jobs: Iterable[Named], step: str, limit_s: float | None) -> None:
        """改一个作业步自己的时限；None 表示不限。有的是旧版、不懂：别的照改，再抛它的 ShepherdError。"""
        named, refused = list(jobs), None
        for client in self._each:
            try:
                client.set_step_time_limit(named, step, limit_s)
            except ShepherdError as error:
                refused = error
        if refused is not None:
            raise refused

    def stats(self) -> Samples:
        """正在运行的作业与作业步此刻的用量。"""
        samples = [client.stats() for client in self._each]
        return Samples(
            jobs=[job for each in samples for job in each.jobs],
            steps=[step for each in samples for step in each.steps or ()],
        )

    def ack(self, ends: Sequence[EndRecord]) -> None:
        """这些结束已经进了数据库：告诉推来它的那一个。"""
        parts: dict[Path, list[EndRecord]] = {}
        with self._lock:
            for end in ends:
                if end.id is not None:
                    # 重连之前收到的，它会再推一遍。
                    home = self._origins.pop((end.key, end.id), None)
                    if home is not None:
                        parts.setdefault(home, []).append(end)
        for home, part in parts.items():
            client = self._clients.get(home)
            if client is not None:
                client.ack(part)

    def shutdown(self, grace_s: float | None) -> None:
        """请每一个结束全部作业后退出。"""
        self._stopping = True
        for client in self._each:
            client.shutdown(grace_s)

    def close(self) -> None:
        """断开；作业不受影响。"""
        for client in self._clients.values():
            client.close()


def _clear_home(home: Path, *, numbered: bool) -> bool:
    """收拾走了的牧守进程的目录；它还没有走（锁还在它手里）返回 False。"""
    with contextlib.suppress(FileNotFoundError), open(home / LOCK_NAME, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if numbered:
            shutil.rmtree(home)
        else:
            (home / JOURNAL_NAME).unlink(missing_ok=True)
            (home / LOCK_NAME).unlink(missing_ok=True)
    return True
