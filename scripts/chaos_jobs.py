"""混沌测试的作业：写什么脚本、应当怎样结束；经 API 提交，断了就带着同一个幂等键再来。"""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scns_conductor.client import JsonClient, Problem, Unreachable

BATCH = 40
SUBMIT_WAIT_S = 120.0
# 从提交到取消隔多久，取消的占多少。
CANCEL_SHARE = 0.03
CANCEL_AFTER_S = 2.0
MOST_TASKS = 6
# 成批的有这么多是一样的短作业。
ALIKE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Expected:
    """一个作业应当怎样结束。不许重新排队的，节点故障时可以是 NODE_FAIL；tasks 不为 0 是数组，有这么多任务。"""

    exit_status: int
    requeue: bool
    cancelled: bool
    tasks: int = 0


@dataclass
class Workload:
    """全部作业。accepted：作业号 -> 预期；runs 是脚本们往里写一行的文件。"""

    root: Path
    rng: random.Random
    total: int
    spread_s: float
    array_share: float = 0.0
    wide_share: float = 0.0
    accepted: dict[int, Expected] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    failure: str | None = None

    def __post_init__(self) -> None:
        self.output = self.root / "out"
        self.output.mkdir()
        self.runs = self.root / "runs"
        self.runs.touch()

    def submit_all(self, url: str, token: str, stop: threading.Event) -> None:
        """在 spread_s 秒里提交完；有的逐个，有的成批，少数随后取消。"""
        began = time.monotonic()
        cancels: list[tuple[float, int]] = []
        with JsonClient(url, token, timeout_s=10) as client:
            while len(self.accepted) < self.total and not stop.is_set():
                wanted = min(BATCH, self.total - len(self.accepted)) if self.rng.random() < 0.5 else 1
                alike = wanted > 1 and self.rng.random() < ALIKE_SHARE
                described = [self._describe(alike=alike) for _ in range(wanted)]
                ids = self._submit(client, [body for body, _ in described], self.rng.randbytes(16).hex())
                if ids is None:
                    self.failure = f"提交失败：{dict(self.refusals)}"
                    return
                for job_id, (_, expected) in zip(ids, described, strict=True):
                    self.accepted[job_id] = expected
                    if expected.cancelled:
                        cancels.append((time.monotonic() + self.rng.uniform(0, CANCEL_AFTER_S), job_id))
                self._cancel_due(client, cancels)
                # 不抢在前头：按比例摊在整段故障里。
                ahead = self.spread_s * len(self.accepted) / self.total - (time.monotonic() - began)
                stop.wait(max(0.0, ahead))
            while cancels:
                self._cancel_due(client, cancels)
                time.sleep(0.1)

    def _describe(self, *, alike: bool) -> tuple[dict[str, Any], Expected]:
        """一个作业；alike 的都要同样的份额、都很短，满了的节点就一个接一个（接力）。"""
        rng = self.rng
        status = 0 if rng.random() < 0.85 else rng.randint(1, 255)
        expected = Expected(status, rng.random() >= 0.1, rng.random() < CANCEL_SHARE)
        wide = rng.random() < self.wide_share and not alike
        if rng.random() < self.array_share:
            expected = Expected(status, expected.requeue, False, rng.randint(2, MOST_TASKS))
        nap = 0.0 if alike else rng.choice((0, 0, 0.1, 0.2, 0.5, rng.uniform(0.5, 4)))
        lines = [
            "#!/bin/bash",
            f'mark() {{ echo "$SLURM_JOB_ID ${{SLURM_RESTART_COUNT:-0}} $1" >> {self.runs}; }}',
            "mark start",
        ]
        if rng.random() < 0.05:
            lines.append("trap '' TERM")
        if rng.random() < 0.05:
            # 逃进别的会话、不肯走的后代：不许留下。
            lines.append("setsid bash -c 'trap \"\" TERM HUP; sleep 1000' </dev/null >/dev/null 2>&1 &")
        lines += [f"sleep {nap:.2f}", "mark end", f"exit {status}", ""]
        job = {
            "name": f"chaos-{rng.randint(0, 99)}",
            "current_working_directory": str(self.output),
            "environment": {"CHAOS_ROOT": str(self.root)},
            "cpus_per_task": 1 if alike else rng.choice((1, 1, 1, 2, 3)),
            "memory_per_node": "64M" if alike else rng.choice((None, "128M", "512M")),
            "requeue": expected.requeue,
            "time_limit": "10",
            "array": f"0-{expected.tasks - 1}" if expected.tasks else None,
            "minimum_nodes": 2 if wide else None,
            "tasks": 2 if wide else None,
        }
        return {
            "job": {name: value for name, value in job.items() if value is not None},
            "script": "\n".join(lines),
        }, expected

    def _submit(self, client: JsonClient, bodies: list[dict[str, Any]], key: str) -> list[int] | None:
        """直到得到作业号为止：回答丢了也不知道提交成没成，所以每次都带同一个键。"""
        deadline = time.monotonic() + SUBMIT_WAIT_S
        while time.monotonic() < deadline:
            try:
                if len(bodies) == 1:
                    return [int(client.submit(bodies[0]["job"], bodies[0]["script"], idempotency_key=key))]
                return [int(job_id) for job_id in client.submit_batch(bodies, idempotency_key=key)]  # type: ignore[arg-type]
            except (Problem, Unreachable) as error:
                self._note(error)
                if isinstance(error, Problem) and error.status not in (500, 502, 503, 504):
                    return None
            time.sleep(0.1)
        return None

    def _cancel_due(self, client: JsonClient, cancels: list[tuple[float, int]]) -> None:
        for due, job_id in list(cancels):
            if time.monotonic() < due:
                continue
            try:
                client.cancel(job_id)
                cancels.remove((due, job_id))
            except (Problem, Unreachable) as error:
                self._note(error)

    def _note(self, error: Problem | Unreachable) -> None:
        self.retries += 1
        self.refusals[f"{error.status} {error.code}" if isinstance(error, Problem) else "unreachable"] += 1
