"""把运行中作业的样子写进数据库：进程号、用量。client 取当前的牧守进程（在途的启动都有了答复）。"""

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Engine

from scns_conductor.statements.answers import answer_insert, notify_answer
from scns_conductor.statements.node_jobs import RECORD_PROCESSES, RECORD_USAGE
from scns_conductor.worker.agent.reconcile import parse_running
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.agent.step_launches import JobSteps


class JobReports:
    """steps 写作业步的用量。"""

    def __init__(self, engine: Engine, node: str, client: Callable[[], ShepherdSet], steps: JobSteps) -> None:
        self._engine = engine
        self._node = node
        self._client = client
        self._steps = steps
        self._reported: dict[tuple[int, int], int] = {}

    def report_processes(self) -> None:
        """把仍在运行的作业的进程号写进数据库；一闪而过的作业不值得写。"""
        running = {
            (task.job_id, task.attempt): task.pid
            for task in parse_running(self._client().state().running)
            if task.step in ("batch", "extern") and task.pid is not None and not task.foreign
        }
        fresh = [(owner, pid) for owner, pid in running.items() if self._reported.get(owner) != pid]
        if fresh:
            with self._engine.begin() as connection:
                connection.execute(
                    RECORD_PROCESSES,
                    {
                        "node": self._node,
                        "job_id": [owner[0] for owner, _ in fresh],
                        "attempt": [owner[1] for owner, _ in fresh],
                        "pid": [pid for _, pid in fresh],
                    },
                )
        self._reported = running

    def report_usage(self) -> None:
        """把采样到的用量写进数据库，作业与作业步的。"""
        samples = self._client().stats()
        jobs = samples.jobs
        self._steps.record_usage(samples.steps or [])
        if not jobs:
            return
        names = ("user_s", "system_s", "max_rss_kb", "read_bytes", "written_bytes")
        values: dict[str, list[Any]] = {name: [getattr(job.usage, name) for job in jobs] for name in names}
        values["job_id"] = [job.job_id for job in jobs]
        values["attempt"] = [job.attempt for job in jobs]
        with self._engine.begin() as connection:
            connection.execute(RECORD_USAGE, values)

    def answer_sampled(self, request_id: str) -> None:
        """采样一次并回答：写好了。"""
        self.report_usage()
        with self._engine.begin() as connection:
            connection.execute(answer_insert(request_id, {"node": self._node}))
            connection.execute(notify_answer(request_id))
