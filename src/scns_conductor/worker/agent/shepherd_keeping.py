"""代理接着牧守进程：断了就重连（必要时启动），旧的排空了请它走，确认结束，收拾过继来的僵尸。"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from scns_conductor.worker.agent.shepherd_client import ShepherdError, ShepherdGone
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.host import process_table
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.shepherd_messages import Capabilities

RETRY_S = 1.0

logger = logging.getLogger(__name__)


class ShepherdKeeping:
    """on_ends、on_bad_end 收结束记录（读线程）；enqueue 把一件事排到控制线程。"""

    def __init__(
        self,
        spool: Path,
        node: str,
        containment: str,
        *,
        stopping: threading.Event,
        on_ends: Callable[[list[EndRecord]], None],
        on_bad_end: Callable[[object, str], None],
        enqueue: Callable[[Callable[[], object]], None],
    ) -> None:
        self._spool = spool
        self._node = node
        self._containment = containment
        self._stopping = stopping
        self._on_ends = on_ends
        self._on_bad_end = on_bad_end
        self._enqueue = enqueue
        self._client: ShepherdSet | None = None
        self._capabilities: Capabilities | None = None
        self._strays: set[int] = set()
        # 断着的时候写进了数据库、还没有确认的。
        self._postponed: list[EndRecord] = []
        self._lock = threading.Lock()

    def client(self) -> ShepherdSet:
        """现在的一组连接；还没有连上抛 ShepherdGone。"""
        if self._client is None:
            raise ShepherdGone("还没有连上牧守进程")
        return self._client

    def enforced(self) -> Capabilities:
        """它做得到哪些约束；还没有连上抛 ShepherdGone。"""
        if self._capabilities is None:
            raise ShepherdGone("还没有连上牧守进程")
        return self._capabilities

    def attach(self) -> None:
        """连上（必要时启动）牧守进程，直到成功；未确认的结束随后自动送来。"""
        with self._lock:
            former, self._client = self._client, None
        if former is not None:
            former.close()
        while not self._stopping.is_set():
            try:
                client = ShepherdSet.attach(
                    self._spool,
                    self._node,
                    containment=self._containment,
                    on_ends=self._on_ends,
                    on_bad_end=self._on_bad_end,
                    on_gone=self._notice_gone,
                )
                self._capabilities = client.state().capabilities
            except (ShepherdGone, ShepherdError, OSError) as error:
                # 没有一版都懂的（差了两版的牧守进程还带着作业）也在这里等：要由管理员装回旧版、排空之后再升级。
                logger.error("shepherd_unreachable", extra={"node": self._node, "error": str(error)})
                self._stopping.wait(RETRY_S)
                continue
            with self._lock:
                self._client = client
                postponed, self._postponed = self._postponed, []
            # 它重连时又送来了，收尾手里正有的不再收一遍：由这里确认。
            self.acknowledge(postponed)
            return

    def retire(self) -> None:
        """排空了的旧的请它走。"""
        self.client().retire()

    def _notice_gone(self) -> None:
        self._enqueue(self._reattach_if_gone)

    def _reattach_if_gone(self) -> None:
        # 真断了的话这一问会抛 ShepherdGone，由 _try 重连。
        self.client().state()

    def reap_strays(self) -> None:
        """过继来的僵尸：牧守进程连得着，隔了一跳还在，就不会再有人看它的退出码了。

        自己起的子进程（prolog、牧守进程）都有线程等着，僵尸转瞬即逝，不会连着两跳都在。
        """
        children = process_table.stats_of(process_table.own_children())
        mine = {stat.pid for stat in children.values() if stat.state == "Z"}
        for pid in mine & self._strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._strays = mine - self._strays

    def acknowledge(self, ends: list[EndRecord]) -> None:
        """这些结束写进数据库了（收尾线程）；连接断着的，连上了再确认。"""
        tried: ShepherdSet | None = None
        while ends:
            with self._lock:
                client = self._client
                if client is None or client is tried:
                    self._postponed += ends
                    return
            try:
                client.ack(ends)
                return
            except ShepherdGone:
                logger.info("ack_postponed", extra={"node": self._node, "ends": len(ends)})
                tried = client

    def close(self) -> None:
        """断开；作业不受影响。"""
        if self._client is not None:
            self._client.close()
