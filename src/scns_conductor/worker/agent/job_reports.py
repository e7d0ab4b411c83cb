"""把运行中作业的样子写进数据库：进程号、用量。client 取当前的牧守进程（在途的启动都有了答复）。"""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Engine

from scns_conductor.statements.answers import answer_insert, notify_answer
from scns_conductor.statements.node_jobs import RECORD_PROCESSES, RECORD_USAGE
from scns_conductor.worker.agent.job_samples import JobSamples
from scns_conductor.worker.agent.reconcile import parse_running
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.agent.step_launches import JobSteps
from scns_conductor.worker.agent.timings import AgentTimings
from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS
from scns_conductor.worker.wire.shepherd_messages import Samples

FRESH_S = 1.0


class JobReports:
    """steps 写作业步的用量，samples 记用量随时间怎样变化。"""

    def __init__(
        self,
        engine: Engine,
        node: str,
        client: Callable[[], ShepherdSet],
        steps: JobSteps,
        samples: JobSamples,
        timings: AgentTimings,
    ) -> None:
        self._engine = engine
        self._node = node
        self._client = client
        self._steps = steps
        self._samples = samples
        self._timings = timings
        self._asked_at = 0.0
        self._reported: dict[tuple[int, int], int] = {}

    def report_processes(self) -> None:
        """把仍在运行的作业的进程号写进数据库；一闪而过的作业不值得写。"""
        hello = self._client().state()
        tasks = list(parse_running(hello.running))
        timings = self._timings
        timings.jobs = len({(task.job_id, task.attempt) for task in tasks})
        timings.steps = sum(task.step not in HOLDER_STEPS for task in tasks)
        timings.unacknowledged = len(hello.unacknowledged)
        running = {
            (task.job_id, task.attempt): task.pid
            for task in tasks
            if task.step in ("batch", "extern") and task.pid is not None and not task.foreign
        }
        fresh = [(owner, pid) for owner, pid in running.items() if self._reported.get(owner) != pid]
        recorded: set[int] = set()
        if fresh:
            with self._engine.begin() as connection:
                recorded |= set(
                    connection.scalars(
                        RECORD_PROCESSES,
                        {
                            "node": self._node,
                            "job_id": [owner[0] for owner, _ in fresh],
                            "attempt": [owner[1] for owner, _ in fresh],
                            "pid": [pid for _, pid in fresh],
                        },
                    )
                )
        # 没有写成的（行被锁着）下一次再写。
        left = {owner for owner, _ in fresh if owner[0] not in recorded}
        self._reported = {owner: pid for owner, pid in running.items() if owner not in left}

    def sample(self, *, totals: bool) -> None:
        """采样一次，记下各作业随时间的变化；totals 为真时也把用到此刻的总数写进作业与作业步的行。"""
        self._sample(totals=totals, watched=False)

    def _sample(self, *, totals: bool, watched: bool) -> None:
        found = self._client().stats()
        self._samples.record(found.jobs, write_all=watched)
        if totals:
            self._write_totals(found)

    def _write_totals(self, found: Samples) -> None:
        jobs = found.jobs
        self._steps.record_usage(found.steps or [])
        if not jobs:
            return
        names = ("user_s", "system_s", "max_rss_kb", "read_bytes", "written_bytes")
        values: dict[str, list[Any]] = {name: [getattr(job.usage, name) for job in jobs] for name in names}
        values["job_id"] = [job.job_id for job in jobs]
        values["attempt"] = [job.attempt for job in jobs]
        with self._engine.begin() as connection:
            connection.execute(RECORD_USAGE, values)

    def answer_sampled(self, request_id: str) -> None:
        """采样一次并回答：写好了。许多人一起看时，刚采过的就是此刻的。"""
        if time.monotonic() - self._asked_at >= FRESH_S:
            self._sample(totals=True, watched=True)
            self._asked_at = time.monotonic()
        with self._engine.begin() as connection:
            connection.execute(answer_insert(request_id, {"node": self._node}))
            connection.execute(notify_answer(request_id))
