"""一个结束写进数据库的前后，代理还要做的：epilog、归还核与卡、节点有错的排空、请别的节点核对。都在收尾的线程里。"""

import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.engine import Engine

from scns_conductor.core import hostlist
from scns_conductor.statements.ends import Ended
from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.job_operations import JobControl
from scns_conductor.worker.agent.prolog import program_environment
from scns_conductor.worker.agent.registration import drain_node
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher, sync_message
from scns_conductor.worker.host.program import RunningPrograms, run_program
from scns_conductor.worker.wire.end_record import EndRecord

logger = logging.getLogger(__name__)


class AfterEnds:
    """control 取对作业做事的（它比收尾的晚造）；enqueue 把一件事排到控制线程。

    dead_letters 是死信的文件，programs 记下跑着的 epilog。
    """

    def __init__(
        self,
        engine: Engine,
        node: str,
        pool: CorePool,
        publisher: Publisher,
        dead_letters: Path,
        programs: RunningPrograms,
        *,
        control: Callable[[], JobControl],
        enqueue: Callable[[Callable[[], object]], None],
    ) -> None:
        self._engine = engine
        self._node = node
        self._pool = pool
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._programs = programs
        self._control = control
        self._enqueue = enqueue

    def run_epilog(self, program: Path, timeout_s: float, end: EndRecord) -> None:
        """管理员的 epilog（它自己的线程）；失败了排空节点。"""
        environment = program_environment(end.job_id, "", end.uid, self._node)
        failure = run_program([str(program)], environment, timeout_s, self._programs)
        if failure is not None:
            self._enqueue(lambda: self._drain(f"作业 {end.job_id} 的 epilog 失败：{failure}"))

    def give_back(self, ends: list[EndRecord]) -> None:
        """写成了：归还核与卡，等着的作业再试一次。"""
        given = [self._pool.give_back(end.owner) for end in ends]
        if any(given):
            self._control().room_made()

    def on_parked(self, key: str, reason: str) -> None:
        """一条结束停放了：说出来，排空节点。"""
        where = self._dead_letters
        logger.error("end_parked", extra={"node": self._node, "key": key, "error": reason, "file": str(where)})
        self._enqueue(lambda: self._drain(f"作业步 {key} 的结局数据库收不下（{reason}），记在 {where}"))

    def after_commit(self, ends: list[EndRecord], ended: list[Ended]) -> None:
        """写成之后：是节点的错就排空；多节点作业的别的节点，请它们核对。"""
        for end in ends:
            if end.id is not None and end.cause == "launch_failed" and end.on_node:
                self._enqueue(
                    lambda why=end.message, job=end.job_id: drain_node(  # type: ignore[misc]
                        self._engine, self._node, why, job_id=job
                    )
                )
            if end.unkillable:
                self._enqueue(lambda job=end.job_id: self._drain(f"作业 {job} 有杀不掉的进程"))  # type: ignore[misc]
        messages: dict[str, list[Message]] = {}
        for job in ended:
            for node in hostlist.expand(job.peers) if job.peers else ():
                if node == self._node:
                    # 报告丢失的可能不是运行脚本的节点：自己这里也要核对。
                    self._enqueue(lambda job_id=job.job_id: self._control().sync([job_id]))  # type: ignore[misc]
                else:
                    messages.setdefault(node, []).append(sync_message([job.job_id]))
        try:
            self._publisher.send(messages)
        except BusUnavailable as error:
            # 别的节点的定期核对会补上。
            logger.warning("bus_unavailable", extra={"node": self._node, "error": str(error)})

    def _drain(self, reason: str) -> None:
        drain_node(self._engine, self._node, reason)
