"""作业步（srun）在本节点上的一份：消息 launch_step -> 牧守进程的一个启动；结束写进 job_steps。

一个节点一步只有一个进程（step_tasks，相当于 slurmstepd），由它启动任务、换用户、与 srun 交换输入输出。
"""

import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Engine

from scns_conductor.core.gres import parse_gres
from scns_conductor.core.hostlist import compress
from scns_conductor.core.output_path import OutputFields, expand_output_path
from scns_conductor.core.task_binding import bound_cores, bound_gpus, cpu_bind_mode, gpu_bind_mode
from scns_conductor.core.task_layout import repeat_list
from scns_conductor.statements.claims import ClaimedJob, held_job
from scns_conductor.statements.end_requests import allocation_release
from scns_conductor.statements.inbox import inbox_insert, notify_inbox
from scns_conductor.statements.job_steps import RAISE_DERIVED_EXIT_STATUS, RECORD_STEP_ENDS, RECORD_STEP_SAMPLES
from scns_conductor.worker.agent.core_binding import Binding, CorePool
from scns_conductor.worker.agent.end_causes import end_cause
from scns_conductor.worker.agent.finisher import clean_text
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.agent.shepherd_client import SOURCE_ROOT
from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS, LaunchSpec

# 与牧守进程一样 -I -S：不看环境、不载入第三方包。
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from scns_conductor.worker.step.process import main; main(sys.argv[1])"
)
DEFAULT_STDOUT = "slurm-%j.%s.out"
STREAMS = ("stdin", "stdout", "stderr")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepRequest:
    """消息的内容；nodes 是各节点上的任务序号，按作业的次序。其余的项见 services.job_steps.StepRequest。"""

    job_id: int
    restart_count: int
    step_id: int
    name: str
    tasks: int
    cpus_per_task: int
    nodes: dict[str, list[int]]
    # 各节点上占的 CPU；--overlap 的步不占，是 0。
    node_cpus: dict[str, int]
    argv: list[str]
    multi_prog: dict[str, list[str]] | None
    environment: dict[str, str]
    inherit_environment: bool
    current_working_directory: str | None
    umask: int | None
    time_limit: int | None
    streams: dict[str, Any]
    connection: dict[str, Any] | None
    # 各节点上分到的内存（MiB）与通用资源；没有细分的是空的。
    shares: dict[str, dict[str, Any]]
    mpi: str
    cpu_bind: str | None
    gpu_bind: str | None
    gpus_per_task: int
    task_prolog: str | None
    task_epilog: str | None

    @classmethod
    def parse(cls, payload: Mapping[str, Any]) -> "StepRequest":
        """消息来自外面：缺项、类型不对抛 KeyError、TypeError 或 ValueError。"""
        order = [str(name) for name in payload.get("node_order") or payload["nodes"]]
        return cls(
            job_id=int(payload["job_id"]),
            restart_count=int(payload["restart_count"]),
            step_id=int(payload["step_id"]),
            name=str(payload["name"]),
            tasks=int(payload["tasks"]),
            cpus_per_task=int(payload["cpus_per_task"]),
            nodes={name: [int(rank) for rank in payload["nodes"][name]] for name in order},
            node_cpus={name: int(count) for name, count in payload.get("node_cpus", {}).items()},
            argv=[str(word) for word in payload["argv"]],
            multi_prog=payload.get("multi_prog"),
            environment={str(name): str(value) for name, value in payload.get("environment", {}).items()},
            inherit_environment=bool(payload.get("inherit_environment", True)),
            current_working_directory=payload.get("current_working_directory"),
            umask=payload.get("umask"),
            time_limit=payload.get("time_limit"),
            streams=dict(payload.get("streams") or {}),
            connection=payload.get("connection"),
            shares=dict(payload.get("shares") or {}),
            mpi=str(payload.get("mpi") or "none"),
            cpu_bind=payload.get("cpu_bind"),
            gpu_bind=payload.get("gpu_bind"),
            gpus_per_task=_gpus(parse_gres(payload.get("tres_per_task") or "")),
            task_prolog=payload.get("task_prolog"),
            task_epilog=payload.get("task_epilog"),
        )


class JobSteps:
    """本节点的作业步。在代理的控制线程里调用；record_ends 在收尾线程里。"""

    def __init__(self, engine: Engine, context: LaunchContext, pool: CorePool) -> None:
        self._engine = engine
        self._context = context
        self._pool = pool
        self._node = context.node.node_name

    def plan(self, request: StepRequest) -> LaunchSpec:
        """本节点的那一份；作业不在这里运行、用户不许等抛 LaunchRefused，写不了说明抛 OSError。"""
        with self._engine.connect() as connection:
            job = held_job(connection, self._node, request.job_id)
        if job is None or job.restart_count != request.restart_count or self._node not in request.nodes:
            raise LaunchRefused(f"作业 {request.job_id} 不在节点 {self._node} 上运行")
        if not request.inherit_environment:
            # 脚本里 unset 掉的变量，不因为提交时有就又出现在任务里。
            job = replace(job, environment={})
        binding = self._pool.binding_of((job.job_id, job.restart_count))
        base = self._context.plan(job, binding)
        path = self._path(request)
        visibility = self._context.node.visibility_variables
        spec = step_spec(request, job, base, self._node, binding, visibility)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(spec, file, ensure_ascii=False)
        return LaunchSpec(
            job_id=job.job_id,
            attempt=job.restart_count,
            launch_id=job.launch_id,
            step=str(request.step_id),
            argv=[sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, SOURCE_ROOT, path],
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            cwd="/",
            # 它自己留在代理的身份上，任务才换成用户的：用户动不了它，它也写得出结局。
            stdout=f"{path}.log",
            stderr=f"{path}.log",
            output_mode="append",
            time_limit_s=request.time_limit,
            warn_signal=base.warn_signal,
            warn_in_s=_warn_in_s(job, base),
            grace_s=base.grace_s,
            cpu_ids=base.cpu_ids,
            memory_bytes=base.memory_bytes,
            step_memory_bytes=_memory_bytes(request.shares.get(self._node)),
            pids_max=base.pids_max,
            device_deny=base.device_deny,
        )

    def refuse(self, request: StepRequest, message: str) -> None:
        """启动不了：本节点的那一份就此结束。"""
        logger.error("step_refused", extra={"job_id": request.job_id, "step_id": request.step_id, "error": message})
        end = {
            "job_id": request.job_id,
            "attempt": request.restart_count,
            "step": str(request.step_id),
            "cause": "launch_failed",
            "exit_status": 1,
            "exit_signal": 0,
        }
        self.record_ends([end], lambda _: None)

    def record_ends(self, ends: Sequence[dict[str, Any]], end_time: Any) -> None:
        """本节点上这些作业步的结局；重复的什么也不做。数据库不在时抛 DBAPIError。"""
        steps = sorted(
            (end for end in ends if end["step"] not in HOLDER_STEPS and str(end["step"]).isdigit()),
            key=lambda end: (end["job_id"], int(end["step"])),
        )
        if not steps:
            return
        usages = [end.get("usage") or {} for end in steps]
        values = {
            "job_id": [end["job_id"] for end in steps],
            "attempt": [end["attempt"] for end in steps],
            "step_id": [int(end["step"]) for end in steps],
            "state": [end_cause(end).step.value for end in steps],
            "exit_status": [_status(end) for end in steps],
            "exit_signal": [end.get("exit_signal") or 0 for end in steps],
            "user_s": [usage.get("user_s") or 0.0 for usage in usages],
            "system_s": [usage.get("system_s") or 0.0 for usage in usages],
            "max_rss_kb": [usage.get("max_rss_kb") or 0 for usage in usages],
            "end_time": [end_time(end) for end in steps],
            "launch_id": [end.get("launch_id") for end in steps],
        }
        with self._engine.begin() as connection:
            ended = connection.execute(RECORD_STEP_ENDS, {**values, "node": self._node}).all()
            connection.execute(
                RAISE_DERIVED_EXIT_STATUS,
                {
                    **{name: values[name] for name in ("job_id", "attempt", "launch_id")},
                    "status": values["exit_status"],
                },
            )
            # 独立的 srun：步做完了，分配也就不要了，哪怕 srun 自己已经不在。
            released = [row for row in ended if row.releases]
            for row in released:
                connection.execute(allocation_release(row.job_id, row.restart_count, row.exit_status, actor="srun"))
            if released:
                connection.execute(inbox_insert("cancel", job_ids=[row.job_id for row in released]))
                connection.execute(notify_inbox())
        for end in steps:
            self._drop_log(end)

    def record_usage(self, steps: Sequence[dict[str, Any]]) -> None:
        """运行中的步此刻的用量；CPU 只增不减，结束时以牧守进程的为准。"""
        known = [step for step in steps if str(step["step"]).isdigit()]
        if not known:
            return
        values = {
            "job_id": [step["job_id"] for step in known],
            "attempt": [step["attempt"] for step in known],
            "step_id": [int(step["step"]) for step in known],
            "usage": [json.dumps(step["usage"]) for step in known],
        }
        with self._engine.begin() as connection:
            connection.execute(RECORD_STEP_SAMPLES, {**values, "node": self._node})

    def leave_attachment(self, job_id: int, attempt: int, step_id: int, connection: dict[str, Any]) -> None:
        """给作业步的主人留一张条子：再连这个客户（sattach）。先写好再改名，它读到的总是完整的。"""
        path = f"{self._file(job_id, attempt, step_id)}.attach.{secrets.token_hex(8)}"
        draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(connection, file)
        os.rename(draft, path)

    def _drop_log(self, end: dict[str, Any]) -> None:
        path = self._context.script_dir / f"step_{self._node}_{end['job_id']}.{end['attempt']}.{end['step']}.log"
        try:
            text = path.read_text(errors="replace")
            path.unlink()
        except FileNotFoundError:
            return
        if text:
            logger.warning("step_complained", extra={"job_id": end["job_id"], "text": clean_text(text[-2000:])})

    def sweep(self, holding: set[tuple[int, int]]) -> None:
        """删掉已经结束的作业留下的文件（步还没有启动就被杀了）。"""
        for path in self._context.script_dir.glob(f"step_{self._node}_*"):
            owner = path.name.removeprefix(f"step_{self._node}_").split(".")
            if (int(owner[0]), int(owner[1])) not in holding:
                path.unlink(missing_ok=True)

    def _path(self, request: StepRequest) -> str:
        return self._file(request.job_id, request.restart_count, request.step_id)

    def _file(self, job_id: int, attempt: int, step_id: int) -> str:
        return str(self._context.script_dir / f"step_{self._node}_{job_id}.{attempt}.{step_id}")


def _status(end: dict[str, Any]) -> int:
    return int(end.get("exit_status") or 0)


def _warn_in_s(job: ClaimedJob, base: LaunchSpec) -> float | None:
    """脚本不在本节点的步：还有多久到作业的提醒；不提醒、已经过了的是 None。"""
    if job.runs_here or base.warn_signal is None or base.warn_batch_only or job.time_limit is None:
        return None
    left = job.start_epoch + job.time_limit - base.warn_before_s - time.time()
    return left if left > 0 else None


def _memory_bytes(share: Mapping[str, Any] | None) -> int | None:
    memory = int((share or {}).get("memory") or 0)
    return memory * 1024**2 if memory else None


def _gpus(gres: Mapping[str, int]) -> int:
    return sum(count for name, count in gres.items() if name.split(":")[0] == "gpu")


def step_gpus(share: Mapping[str, Any] | None, binding: Binding) -> list[int]:
    """这一步在本节点上看见的卡：细分了的是分到的，否则是作业的全部。"""
    if not share or not share.get("divided"):
        return binding.accelerator_ids
    return sorted(
        int(index) for name, ids in (share.get("ids") or {}).items() if name.split(":")[0] == "gpu" for index in ids
    )


def _task_environment(
    request: StepRequest, node: str, binding: Binding, visibility: Sequence[str]
) -> dict[str, dict[str, str]]:
    """各任务看见的卡；本节点没有卡的什么也不写。"""
    gpus = step_gpus(request.shares.get(node), binding)
    mode = gpu_bind_mode(request.gpu_bind, request.gpus_per_task)
    found: dict[str, dict[str, str]] = {}
    for local, rank in enumerate(request.nodes[node]):
        visible = ",".join(map(str, bound_gpus(mode, local, gpus)))
        found[str(rank)] = dict.fromkeys(visibility, visible)
        if gpus:
            found[str(rank)] |= {"SLURM_STEP_GPUS": ",".join(map(str, gpus)), "SLURM_GPUS_ON_NODE": str(len(gpus))}
    return found


def _task_cores(request: StepRequest, node: str, base: LaunchSpec) -> tuple[dict[str, list[int]], bool]:
    """各任务绑的核，以及要不要说出来（--cpu-bind=verbose）；作业没有绑核的不再细分。"""
    mode, verbose = cpu_bind_mode(request.cpu_bind)
    cores = base.cpu_ids or []
    per_task = request.cpus_per_task
    found = {str(rank): bound_cores(mode, local, cores, per_task) for local, rank in enumerate(request.nodes[node])}
    return {rank: bound for rank, bound in found.items() if bound}, verbose


def step_spec(
    request: StepRequest, job: ClaimedJob, base: LaunchSpec, node: str, binding: Binding, visibility: Sequence[str]
) -> dict[str, Any]:
    """step_tasks 要的说明。"""
    ranks = request.nodes[node]
    task_cpus, tell_binding = _task_cores(request, node, base)
    directory = request.current_working_directory or job.current_working_directory
    files = {str(rank): _files(request, job, node, rank, directory) for rank in ranks}
    outputs = [item[name] for item in files.values() for name in ("stdout", "stderr") if item[name]]
    return {
        "node": node,
        "step": f"{job.job_id}.{request.step_id}",
        "ranks": ranks,
        "argv": request.argv,
        "multi_prog": request.multi_prog,
        "env": {
            **base.env,
            **request.environment,
            **_variables(request, job, node),
        },
        "cwd": directory,
        "uid": base.uid,
        "gid": base.gid,
        "groups": base.groups,
        "umask": base.umask if request.umask is None else request.umask,
        "streams": {"rows": 0, "columns": 0, **request.streams},
        "files": files,
        "shared_files": len(set(outputs)) < len(outputs) or len(request.nodes) > 1,
        "connection": request.connection,
        "nodes": request.nodes,
        "tasks": request.tasks,
        "mpi": request.mpi,
        "task_env": _task_environment(request, node, binding, visibility),
        "task_cpus": task_cpus,
        "tell_binding": tell_binding,
        "task_prolog": request.task_prolog,
        "task_epilog": request.task_epilog,
    }


def _files(request: StepRequest, job: ClaimedJob, node: str, rank: int, directory: str) -> dict[str, str | None]:
    """各路的文件；None 表示走连接。没有连接的输出总在文件里。"""
    fields = OutputFields(
        job_id=job.job_id,
        job_name=request.name,
        user_name=job.user_name,
        node_name=node,
        array_job_id=job.array_job_id,
        array_task_id=job.array_task_id,
        step=str(request.step_id),
        node_index=list(request.nodes).index(node),
        task_index=rank,
        restart_count=job.restart_count,
    )
    linked = request.connection is not None
    found: dict[str, str | None] = {}
    for name in STREAMS:
        pattern = request.streams.get(name)
        if pattern is not None and pattern.isdigit() and int(pattern) < request.tasks and (linked or name == "stdin"):
            pattern = None if int(pattern) == rank else "none"
        if pattern is None or pattern == "all":
            if linked:
                found[name] = None
                continue
            pattern = "none" if name == "stdin" else request.streams.get("stdout") or DEFAULT_STDOUT
        found[name] = "/dev/null" if pattern == "none" else expand_output_path(pattern, fields, directory)
    if request.streams.get("stderr") is None and request.streams.get("stdout") is not None:
        found["stderr"] = found["stdout"]
    return found


def _variables(request: StepRequest, job: ClaimedJob, node: str) -> dict[str, str]:
    """srun(1) 的 OUTPUT ENVIRONMENT VARIABLES 里属于一步、一个节点的；属于任务的由 step_tasks 加。"""
    counts = [len(ranks) for ranks in request.nodes.values()]
    node_list, connection = compress(request.nodes), request.connection or {}
    values = {
        "SLURM_STEP_ID": request.step_id,
        "SLURM_STEPID": request.step_id,
        "SLURM_STEP_NODELIST": node_list,
        "SLURM_STEP_NUM_NODES": len(counts),
        "SLURM_STEP_NUM_TASKS": request.tasks,
        "SLURM_STEP_TASKS_PER_NODE": repeat_list(counts),
        "SLURM_NTASKS": request.tasks,
        "SLURM_NPROCS": request.tasks,
        "SLURM_NNODES": len(counts),
        "SLURM_TASKS_PER_NODE": repeat_list(counts),
        "SLURM_NODEID": list(request.nodes).index(node),
        "SLURM_GTIDS": ",".join(map(str, request.nodes[node])),
        "SLURM_CPUS_ON_NODE": request.node_cpus.get(node) or job.cpus,
        "SLURMD_NODENAME": node,
        "SLURM_LAUNCH_NODE_IPADDR": (connection.get("addresses") or [None])[0],
        "SLURM_SRUN_COMM_HOST": (connection.get("addresses") or [None])[0],
        "SLURM_SRUN_COMM_PORT": connection.get("port"),
        "SLURM_STEP_LAUNCHER_PORT": connection.get("port"),
    }
    return {name: str(value) for name, value in values.items() if value is not None}
