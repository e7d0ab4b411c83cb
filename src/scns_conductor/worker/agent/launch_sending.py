"""把备好的启动说明送给牧守进程：成批、不等答复；连接断了没有得到答复的，核对时再送一遍。"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from scns_conductor.worker.agent.finisher import Finisher
from scns_conductor.worker.agent.job_traces import JobTraces
from scns_conductor.worker.agent.own_ends import OwnEnds
from scns_conductor.worker.agent.reconcile import HeldAllocation
from scns_conductor.worker.agent.shepherd_client import ShepherdError
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.agent.timings import AgentTimings
from scns_conductor.worker.wire.launch_spec import LaunchSpec, split_key
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer

# 牧守进程那里至多排着几批启动，再加正在启动的一批。
IN_FLIGHT_MOST = 1

logger = logging.getLogger(__name__)


class LaunchSending:
    """client 取当前的牧守进程；unsent 是认领了、还没有得到答复的启动。"""

    def __init__(
        self,
        node: str,
        finisher: Finisher,
        ends: OwnEnds,
        client: Callable[[], ShepherdSet],
        timings: AgentTimings,
        traces: JobTraces,
    ) -> None:
        self.unsent: dict[tuple[int, int], LaunchSpec] = {}
        self._node = node
        self._finisher = finisher
        self._ends = ends
        self._client = client
        self._timings = timings
        self._traces = traces
        # 送去了、还没有看过答复的：哪条连接，请求号，有哪些，何时送去的。
        self._in_flight: deque[tuple[ShepherdSet, int, list[tuple[int, int]], float]] = deque()

    def send(self, specs: Sequence[LaunchSpec]) -> None:
        """送去启动，只等上一批的答复：这一批在启动的时候，认领下一批。"""
        if not specs:
            return
        owners = {(spec.job_id, spec.attempt): spec for spec in specs}
        self.unsent |= owners
        client = self._client()
        self._in_flight.append((client, client.begin_launch(specs), list(owners), time.time()))
        self.settle(IN_FLIGHT_MOST)

    def settle(self, most: int = 0) -> None:
        """等在途的启动有了答复，至多剩 most 批。对作业做别的事之前都要等齐：还没有启动的，牧守进程会说没有。"""
        while len(self._in_flight) > most:
            client, request_id, owners, sent = self._in_flight.popleft()
            if client is self._client():
                answers = self._launched(client, request_id, owners)
                self._refuse(answers)
                self._traces.spawned(answers, sent)
                for answer in answers:
                    # 答复是后来才看的：以牧守进程记下的时刻为准，两边是同一个钟。
                    if answer.started_unix_s is not None and not answer.duplicate:
                        self._timings.spawn.observe(max(0.0, answer.started_unix_s - sent))
                for owner in owners:
                    self.unsent.pop(owner, None)

    def _launched(self, client: ShepherdSet, request_id: int, owners: Sequence[tuple[int, int]]) -> list[LaunchAnswer]:
        """启动的答复。旧的牧守进程遇到一份坏的说明就整批拒收：一份一份地再送，坏的只有它自己。"""
        try:
            return client.launched(request_id)
        except ShepherdError as error:
            if error.code != "bad_request":
                raise
        answers: list[LaunchAnswer] = []
        for owner in owners:
            spec = self.unsent[owner]
            try:
                answers.extend(client.launch([spec]))
            except ShepherdError as error:
                answers.append(LaunchAnswer(key=spec.key, state="refused", error=str(error)))
        return answers

    def _refuse(self, answers: Iterable[LaunchAnswer]) -> None:
        """牧守进程拒收的：重新排队并保留，别处也许收（多半是这里的牧守进程版本旧）。"""
        for answer in answers:
            if answer.state == "refused":
                logger.error("launch_refused", extra={"node": self._node, "key": answer.key, "error": answer.error})
                message = f"节点 {self._node} 的牧守进程拒收启动说明：{answer.error}"
                job_id, attempt, _, launch_id = split_key(answer.key)
                owner = (job_id, attempt)
                end = self._ends.make(owner, launch_id, "launch_failed", message, on_node=True, hold=True)
                self._finisher.put([end])

    def send_again(self, held: Sequence[HeldAllocation], known: set[tuple[int, int]], *, journal_intact: bool) -> None:
        """牧守进程死在启动途中：它的日志里没有、数据库里仍在运行的才再送，所以不会启动两次。

        日志坏过就不敢断定没有启动过，留给核对按丢失处理。
        """
        unsent, self.unsent = self.unsent, {}
        wanted = {
            (row.job_id, row.restart_count)
            for row in held
            if row.claimed and row.restart_count == row.current_attempt and row.requested_end_state is None
        }
        if journal_intact:
            self.send([spec for owner, spec in unsent.items() if owner in wanted and owner not in known])
