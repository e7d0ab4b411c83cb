"""作业的轨迹在节点上的几段：认领、进程起来、运行、写下结束，与从提交到结束的根。没有开时什么也不做。"""

import time
from collections.abc import Callable, Iterable

from scns_conductor.statements.claims import ClaimedJob
from scns_conductor.tracing import Tracer
from scns_conductor.worker.agent.end_causes import end_cause
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import split_key
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer


class JobTraces:
    """boot_time 是数据库时钟下的开机时刻：写下的时刻都照数据库的钟，几台机器的钟不齐也对得上。"""

    def __init__(self, tracer: Tracer | None, node: str, boot_time: Callable[[], float]) -> None:
        self._tracer = tracer
        self._node = node
        self._boot_time = boot_time
        # 在这里运行脚本的作业是何时提交的。
        self._submitted: dict[tuple[int, int], float] = {}

    def _now(self) -> float:
        return self._boot_time() + time.clock_gettime(time.CLOCK_BOOTTIME)

    def claimed(self, job: ClaimedJob) -> None:
        """认领了。"""
        if self._tracer is not None:
            owner = (job.job_id, job.restart_count)
            self._tracer.span("claim", owner, job.start_epoch, self._now(), node=self._node)
            if job.runs_here:
                self._submitted[owner] = job.submit_epoch

    def spawned(self, answers: Iterable[LaunchAnswer], sent_unix_s: float) -> None:
        """牧守进程答了：进程起来了。"""
        if self._tracer is None:
            return
        skew_s = self._now() - time.time()
        for answer in answers:
            if answer.started_unix_s is not None and not answer.duplicate:
                owner = split_key(answer.key)[:2]
                self._tracer.span("spawn", owner, sent_unix_s + skew_s, answer.started_unix_s + skew_s, node=self._node)

    def ended(self, ends: Iterable[EndRecord], end_time: Callable[[EndRecord], float | None]) -> None:
        """结束写进数据库了。"""
        if self._tracer is None:
            return
        now = self._now()
        for end in ends:
            ended = end_time(end) or now
            if end.started_unix_s is not None and end.ended_unix_s is not None:
                ran_s = max(0.0, end.ended_unix_s - end.started_unix_s)
                self._tracer.span("run", end.owner, ended - ran_s, ended, node=self._node)
            self._tracer.span("end", end.owner, ended, now, node=self._node)
            submitted = self._submitted.pop(end.owner, None)
            if submitted is not None:
                state = end_cause(end).job
                self._tracer.root("job", end.owner, submitted, now, **{"scns.state": str(state)})

    def close(self) -> None:
        """送出还在手里的。"""
        if self._tracer is not None:
            self._tracer.close()
