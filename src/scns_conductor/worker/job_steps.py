"""作业步（srun）：在作业已有的分配里，再启动 N 个任务。

总线消息 launch_step 发给作业的每个节点；每个节点自己算出哪些任务归它，结果处处相同。
每个任务一个进程，SLURM_PROCID 是它的序号；输出写进脚本目录里属于用户的文件，经 read_step 读走，作业结束后删除。
任务结束时，结局写进 request_answers，请求号是 step_request_id。
"""

import base64
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from scns_conductor.core.statements import notify_answer
from scns_conductor.worker.claim import ClaimedJob, held_job
from scns_conductor.worker.core_binding import CorePool
from scns_conductor.worker.finish import clean_text
from scns_conductor.worker.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.launch_spec import HOLDER_STEPS, LaunchSpec
from scns_conductor.worker.user_files import read_range

MAX_READ_BYTES = 1024**2
STREAMS = ("stdout", "stderr")

logger = logging.getLogger(__name__)

_ANSWER = sa.text(
    "INSERT INTO request_answers (request_id, answer) VALUES (:request_id, CAST(:answer AS jsonb)) "
    "ON CONFLICT (request_id) DO NOTHING"
).bindparams(sa.bindparam("answer", type_=sa.JSON))
_DERIVED = sa.text(
    "UPDATE jobs SET derived_exit_status = greatest(coalesce(derived_exit_status, 0), :status) "
    "WHERE job_id = :job_id AND restart_count = :attempt"
)


def spread_tasks(tasks: int, per_node: Sequence[int]) -> list[list[int]]:
    """任务的序号怎样分到各节点：先按每个节点分到的任务数成块地放满，多出来的再一轮一个地放。"""
    ranks: list[list[int]] = [[] for _ in per_node]
    counts = [0] * len(per_node)
    left = tasks
    for index, room in enumerate(per_node):
        counts[index] = min(room, left)
        left -= counts[index]
    for extra in range(left):
        counts[extra % len(per_node)] += 1
    first = 0
    for index, count in enumerate(counts):
        ranks[index] = list(range(first, first + count))
        first += count
    return ranks


def step_request_id(job_id: int, attempt: int, step_id: int, rank: int) -> str:
    """一个任务的结局写在这个请求号下。"""
    return f"step:{job_id}.{attempt}.{step_id}.{rank}"


@dataclass(frozen=True, slots=True)
class StepRequest:
    """要启动的作业步。working_directory 为 None 取作业的；environment 盖过作业的。"""

    request_id: str
    job_id: int
    step_id: int
    argv: list[str]
    tasks: int
    environment: dict[str, str]
    working_directory: str | None

    @classmethod
    def parse(cls, payload: dict[str, Any]) -> "StepRequest":
        """消息来自外面：缺项、类型不对抛 KeyError、TypeError 或 ValueError。"""
        argv = [str(word) for word in payload["argv"]]
        tasks = int(payload["tasks"])
        if not argv or tasks < 1:
            raise ValueError("作业步要有命令，任务数至少是 1")
        environment = {str(name): str(value) for name, value in payload.get("environment", {}).items()}
        directory = payload.get("working_directory")
        return cls(
            str(payload["request_id"]),
            int(payload["job_id"] if "job_id" in payload else payload["job_ids"][0]),
            int(payload["step_id"]),
            argv,
            tasks,
            environment,
            None if directory is None else str(directory),
        )


class JobSteps:
    """本节点的作业步。都在代理的控制线程里调用，read 除外。"""

    def __init__(self, engine: Engine, context: LaunchContext, pool: CorePool) -> None:
        self._engine = engine
        self._context = context
        self._pool = pool
        self._node = context.node.node_name

    def plan(self, request: StepRequest) -> list[LaunchSpec]:
        """本节点要启动的任务；作业不在这里运行、用户不许等抛 LaunchRefused。"""
        with self._engine.connect() as connection:
            job = held_job(connection, self._node, request.job_id)
        if job is None:
            raise LaunchRefused(f"作业 {request.job_id} 不在节点 {self._node} 上运行")
        counts = spread_tasks(request.tasks, job.peer_tasks)
        return [self._task(job, request, rank, counts) for rank in counts[job.node_index]]

    def _task(self, job: ClaimedJob, request: StepRequest, rank: int, counts: list[list[int]]) -> LaunchSpec:
        binding = self._pool.take((job.job_id, job.restart_count), job.cpus, job.gres)
        base = self._context.plan(job, binding)
        mine = counts[job.node_index]
        paths = {
            stream: str(self._path(job.job_id, job.restart_count, request.step_id, rank, stream)) for stream in STREAMS
        }
        for path in paths.values():
            _own_file(path, base.uid, base.gid)
        environment = {
            **base.env,
            **request.environment,
            "SLURM_STEP_ID": str(request.step_id),
            "SLURM_STEPID": str(request.step_id),
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(mine.index(rank)),
            "SLURM_GTIDS": ",".join(map(str, mine)),
            "SLURM_NTASKS": str(request.tasks),
            "SLURM_NPROCS": str(request.tasks),
            "SLURM_STEP_NUM_TASKS": str(request.tasks),
            "SLURM_STEP_NUM_NODES": str(sum(1 for ranks in counts if ranks)),
            "SLURM_STEP_NODELIST": job.node_list,
        }
        return LaunchSpec(
            job_id=job.job_id,
            attempt=job.restart_count,
            step=f"{request.step_id}.{rank}",
            argv=["/usr/bin/env", "--", *request.argv],
            env=environment,
            cwd=request.working_directory or job.current_working_directory,
            uid=base.uid,
            gid=base.gid,
            groups=base.groups,
            umask=base.umask,
            stdout=paths["stdout"],
            stderr=paths["stderr"],
            output_mode="append",
            grace_s=base.grace_s,
            cpu_ids=base.cpu_ids,
            memory_bytes=base.memory_bytes,
            pids_max=base.pids_max,
            device_deny=base.device_deny,
        )

    def answer(self, request_id: str, answer: dict[str, Any]) -> None:
        """回答一个请求；每个节点各答各的，键带上节点名。"""
        with self._engine.begin() as connection:
            connection.execute(_ANSWER, {"request_id": f"{request_id}@{self._node}", "answer": answer})
            connection.execute(notify_answer(f"{request_id}@{self._node}"))

    def record_ends(self, ends: Sequence[dict[str, Any]]) -> None:
        """任务的结局写进数据库；重复的什么也不做。数据库不在时抛 DBAPIError。"""
        steps = [end for end in ends if end["step"] not in HOLDER_STEPS]
        if not steps:
            return
        with self._engine.begin() as connection:
            for end in sorted(steps, key=lambda end: (end["job_id"], end["step"])):
                step_id, _, rank = str(end["step"]).partition(".")
                if not (step_id.isdigit() and rank.isdigit()):
                    continue
                request_id = step_request_id(end["job_id"], end["attempt"], int(step_id), int(rank))
                answer = {name: end.get(name) for name in ("exit_status", "exit_signal", "cause")}
                answer["message"] = clean_text(end.get("message"))
                connection.execute(_ANSWER, {"request_id": request_id, "answer": answer})
                connection.execute(notify_answer(request_id))
                status = end.get("exit_status") or 0
                connection.execute(_DERIVED, {"status": status, "job_id": end["job_id"], "attempt": end["attempt"]})

    def read(self, payload: dict[str, Any]) -> None:
        """payload：request_id、job_id、attempt、step_id、rank、stream、offset、length。

        回答 {data（base64）, total} 或 {code, error}。
        """
        stream = str(payload.get("stream", "stdout"))
        if stream not in STREAMS:
            raise ValueError(f"没有 {stream} 这一路输出")
        path = self._path(
            int(payload["job_id"]), int(payload["attempt"]), int(payload["step_id"]), int(payload["rank"]), stream
        )
        length = min(int(payload.get("length", MAX_READ_BYTES)), MAX_READ_BYTES)
        try:
            data, total = read_range(str(path), int(payload.get("offset", 0)), length, uid=None, gid=None, groups=None)
            answer: dict[str, Any] = {"data": base64.b64encode(data).decode(), "total": total}
        except OSError as error:
            answer = {"code": "unreadable", "error": f"读不了作业步的输出：{error.strerror}"}
        self.answer(str(payload["request_id"]), answer)

    def sweep(self, holding: set[tuple[int, int]]) -> None:
        """删掉已经结束的作业的输出文件。"""
        for path in self._context.script_dir.glob(f"step_{self._node}_*"):
            owner = path.name.removeprefix(f"step_{self._node}_").split(".")
            if (int(owner[0]), int(owner[1])) not in holding:
                path.unlink(missing_ok=True)

    def _path(self, job_id: int, attempt: int, step_id: int, rank: int, stream: str) -> Path:
        return self._context.script_dir / f"step_{self._node}_{job_id}.{attempt}.{step_id}.{rank}.{stream}"


def _own_file(path: str, uid: int | None, gid: int | None) -> None:
    """建一个属于用户的空文件（0600）；目录不属于用户，没有链接可乘之机。已有的（重复的消息）不动。"""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        if uid is not None:
            os.fchown(fd, uid, -1 if gid is None else gid)
    finally:
        os.close(fd)
