"""作业步（srun）在本节点上的一份：消息 launch_step -> 牧守进程的一个启动；结束写进 job_steps。

一个节点一步只有一个进程（worker/step，相当于 slurmstepd），由它启动任务、换用户、与 srun 交换输入输出。
"""

import contextlib
import functools
import json
import logging
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine, Row

from scns_conductor.core.distribution import socket_order
from scns_conductor.core.gres import parse_gres
from scns_conductor.core.hostlist import compress
from scns_conductor.core.memory_binding import memory_bind
from scns_conductor.core.output_path import OutputFields, expand_output_path
from scns_conductor.core.preserved_environment import PRESERVE_VARIABLE, PRESERVED
from scns_conductor.core.step_wire import place_name
from scns_conductor.core.task_binding import bound_cores, bound_gpus, cpu_bind_mode, gpu_bind_mode
from scns_conductor.core.task_layout import repeat_list
from scns_conductor.statements.claims import ClaimedJob, components_of, held_job
from scns_conductor.statements.end_requests import allocation_release
from scns_conductor.statements.inbox import inbox_insert, notify_inbox
from scns_conductor.statements.job_steps import (
    LOCK_HET_JOB,
    RAISE_DERIVED_EXIT_STATUS,
    RECORD_STEP_ENDS,
    RECORD_STEP_SAMPLES,
    STEP_DONE_TOGETHER,
)
from scns_conductor.worker.agent.core_binding import Binding, CorePool
from scns_conductor.worker.agent.end_causes import end_cause
from scns_conductor.worker.agent.finisher import clean_text
from scns_conductor.worker.agent.gpus.cards import Cards
from scns_conductor.worker.agent.gpus.shares import KINDS as SHARED
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.agent.shepherd_client import SOURCE_ROOT
from scns_conductor.worker.host.thread_owner import Lanes
from scns_conductor.worker.wire.bus_messages import LaunchStep
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import LaunchSpec, task_key
from scns_conductor.worker.wire.process_usage import Usage
from scns_conductor.worker.wire.shepherd_messages import StepSample
from scns_conductor.worker.wire.step_spec import ClientAddress, StepSpec, TaskFiles, TaskSpec

if TYPE_CHECKING:
    from scns_conductor.worker.wire.bus_messages import NodePart

# 与牧守进程一样 -I -S：不看环境、不载入第三方包。
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from scns_conductor.worker.step.process import main; main(sys.argv[1])"
)
DEFAULT_STDOUT = "slurm-%j.%s.out"

logger = logging.getLogger(__name__)


class JobSteps:
    """本节点的作业步。在代理的控制线程里调用；record_ends 在收尾线程里。"""

    def __init__(self, engine: Engine, context: LaunchContext, pool: CorePool) -> None:
        self._engine = engine
        self._context = context
        self._pool = pool
        self._node = context.node.node_name
        self._spool = context.settings.spool_path
        # 脚本目录里有步的口令文件（--x11），它也许在不答话的文件系统上：看它、删它都不在控制线程与收尾线程里。
        self._files = Lanes("step-file", most=2)
        # 目录 -> 上一次看到的；正在看的目录。
        self._left: dict[Path, list[Path]] = {}
        self._sweeping: set[Path] = set()

    def plan(self, request: LaunchStep) -> LaunchSpec:
        """本节点的那一份；作业不在这里运行、用户不许等抛 LaunchRefused，写不了说明抛 OSError。"""
        with self._engine.begin() as connection:
            job = held_job(connection, self._node, request.job_id)
            head = None if job is None else job.het_job_id
            components = [] if head is None else components_of(connection, [head])[head]
        if job is None or job.restart_count != request.restart_count or self._node not in request.nodes:
            raise LaunchRefused(f"作业 {request.job_id} 不在节点 {self._node} 上运行")
        job = job.without_spared(self._context.node.cpu_threads)
        if not request.inherit_environment:
            # 脚本里 unset 掉的变量，不因为提交时有就又出现在任务里。
            job = replace(job, environment={})
        binding = self._pool.binding_of((job.job_id, job.restart_count))
        base = self._context.plan(job, binding, components)
        orders = self._context.orders(request.environment)
        request = request.replace(environment=orders.environment)
        path = self._path(request)
        spec = step_spec(request, job, base, self._node, binding, self._context.node.cards, self._pool)
        login = self._context.login(job.user_name)
        if spec.x11_cookie is not None:
            spec.x11_folder = str(self._context.script_dir / f"{os.path.basename(path)}.xauth")
        spec.container = self._context.container(request.container, request.container_image, login)
        spec.rlimits = orders.rlimits
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(spec.to_wire(), file, ensure_ascii=False)
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
            time_limit_s=request.time_limit_s,
            warn_signal=base.warn_signal,
            warn_in_s=_warn_in_s(job, base),
            grace_s=base.grace_s,
            cpu_ids=base.cpu_ids,
            memory_bytes=base.memory_bytes,
            step_memory_bytes=_memory_bytes(request.shares.get(self._node)),
            pids_max=base.pids_max,
            device_deny=base.device_deny,
            oom_kill_step=orders.oom_kill_step,
        )

    def refuse(self, request: LaunchStep, message: str) -> None:
        """启动不了：本节点的那一份就此结束。"""
        logger.error("step_refused", extra={"job_id": request.job_id, "step_id": request.step_id, "error": message})
        end = EndRecord(
            key=task_key(request.job_id, request.restart_count, str(request.step_id)),
            job_id=request.job_id,
            attempt=request.restart_count,
            step=str(request.step_id),
            cause="launch_failed",
            exit_status=1,
            exit_signal=0,
        )
        self.record_ends([end], lambda _: None)

    def record_ends(self, ends: Sequence[EndRecord], end_time: Callable[[EndRecord], float | None]) -> None:
        """本节点上这些作业步的结局；重复的什么也不做。数据库不在时抛 DBAPIError。"""
        steps = sorted(
            (end for end in ends if not end.is_holder and end.step.isdigit()),
            key=lambda end: (end.job_id, int(end.step)),
        )
        if not steps:
            return
        usages = [end.usage or Usage() for end in steps]
        values = {
            "job_id": [end.job_id for end in steps],
            "attempt": [end.attempt for end in steps],
            "step_id": [int(end.step) for end in steps],
            "state": [end_cause(end).step.value for end in steps],
            "exit_status": [end.exit_status or 0 for end in steps],
            "exit_signal": [end.exit_signal or 0 for end in steps],
            "user_s": [usage.user_s for usage in usages],
            "system_s": [usage.system_s for usage in usages],
            "max_rss_kb": [usage.max_rss_kb for usage in usages],
            "end_time": [end_time(end) for end in steps],
            "launch_id": [end.launch_id for end in steps],
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
            released = self._released(connection, [row for row in ended if row.releases])
            for row in released:
                connection.execute(allocation_release(row.job_id, row.restart_count, row.exit_status, actor="srun"))
            if released:
                connection.execute(inbox_insert("cancel", job_ids=[row.job_id for row in released]))
                connection.execute(notify_inbox())
        for end in steps:
            self._files.submit(self._spool, functools.partial(self._drop_log, end))

    def _released(self, connection: Connection, ended: Sequence[Row[Any]]) -> list[Row[Any]]:
        """做完了的步里，分配可以交还的；跨几个部分的等全都做完，先做完的一交还，别的部分就被一起结束了。"""
        found = [row for row in ended if row.het_job_id is None]
        for het_job_id, step_id in sorted({(row.het_job_id, row.step_id) for row in ended if row.het_job_id}):
            connection.execute(LOCK_HET_JOB, {"het_job_id": het_job_id})
            found += connection.execute(STEP_DONE_TOGETHER, {"het_job_id": het_job_id, "step_id": step_id})
        return found

    def record_usage(self, steps: Sequence[StepSample]) -> None:
        """运行中的步此刻的用量；CPU 只增不减，结束时以牧守进程的为准。"""
        known = [step for step in steps if step.step.isdigit()]
        if not known:
            return
        values = {
            "job_id": [step.job_id for step in known],
            "attempt": [step.attempt for step in known],
            "step_id": [int(step.step) for step in known],
            "usage": [json.dumps(step.usage.to_wire()) for step in known],
        }
        with self._engine.begin() as connection:
            connection.execute(RECORD_STEP_SAMPLES, {**values, "node": self._node})

    def leave_attachment(self, job_id: int, attempt: int, step_id: int, client: ClientAddress) -> None:
        """给作业步的主人留一张条子：再连这个客户（sattach）。先写好再改名，它读到的总是完整的。"""
        path = f"{self._file(job_id, attempt, step_id)}.attach.{secrets.token_hex(8)}"
        draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(client.to_wire(), file)
        os.rename(draft, path)

    def _drop_log(self, end: EndRecord) -> None:
        path = self._spool / f"step_{self._node}_{end.job_id}.{end.attempt}.{end.step}.log"
        try:
            text = path.read_text(errors="replace")
            path.unlink()
        except OSError:
            return
        if text:
            logger.warning("step_complained", extra={"job_id": end.job_id, "text": clean_text(text[-2000:])})

    def sweep(self, holding: set[tuple[int, int]]) -> None:
        """删掉已经结束的作业留下的文件（步还没有启动就被杀了）：上一次看到的里面不在 holding 里的。"""
        for folder in {self._spool, self._context.script_dir} - self._sweeping:
            self._sweeping.add(folder)
            gone = [path for path in self._left.get(folder, ()) if _owner(path, self._node) not in holding]
            self._files.submit(folder, functools.partial(self._sweep, folder, gone))

    def _sweep(self, folder: Path, gone: Sequence[Path]) -> None:
        with contextlib.suppress(OSError):
            for path in gone:
                # 目录是 --x11 的口令文件的。
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            self._left[folder] = list(folder.glob(f"step_{self._node}_*"))
        self._sweeping.discard(folder)

    def _path(self, request: LaunchStep) -> str:
        return self._file(request.job_id, request.restart_count, request.step_id)

    def _file(self, job_id: int, attempt: int, step_id: int) -> str:
        return str(self._spool / f"step_{self._node}_{job_id}.{attempt}.{step_id}")


def _owner(path: Path, node: str) -> tuple[int, int]:
    job_id, attempt, *_ = path.name.removeprefix(f"step_{node}_").split(".")
    return int(job_id), int(attempt)


def _warn_in_s(job: ClaimedJob, base: LaunchSpec) -> float | None:
    """脚本不在本节点的步：还有多久到作业的提醒；不提醒、已经过了的是 None。"""
    if job.runs_here or base.warn_signal is None or base.warn_batch_only or job.time_limit is None:
        return None
    left = job.start_epoch + job.time_limit - base.warn_before_s - time.time()
    return left if left > 0 else None


def _memory_bytes(share: "NodePart | None") -> int | None:
    memory = int(share.get("memory") or 0) if share else 0
    return memory * 1024**2 if memory else None


def _gpus(gres: Mapping[str, int]) -> int:
    return sum(count for name, count in gres.items() if name.split(":")[0] == "gpu")


GPU_KINDS = frozenset({"gpu", *SHARED})


def step_gpus(share: "NodePart | None", binding: Binding) -> list[int]:
    """这一步在本节点上看见的卡：细分了的是分到的，否则是作业的全部。"""
    if not share or not share.get("divided"):
        return binding.accelerator_ids
    return sorted(
        {
            int(index)
            for name, ids in (share.get("ids") or {}).items()
            if name.split(":")[0] in GPU_KINDS
            for index in ids
        }
    )


def _task_environment(
    request: LaunchStep,
    node: str,
    binding: Binding,
    cards: Cards,
    local: int,
    near: Callable[[Sequence[int]], list[int]],
) -> dict[str, str]:
    """本节点上第 local 个任务看见的卡；本节点没有卡的什么也不写。near 从几块卡里挑离它的核近的。"""
    gpus = step_gpus(request.shares.get(node), binding)
    mode = gpu_bind_mode(request.gpu_bind, _gpus(parse_gres(request.tres_per_task or "")))
    seen = near(gpus) if mode == "closest" else bound_gpus(mode, local, gpus, relative=cards.relative)
    found = cards.variables(binding.accelerator_ids, seen)
    if gpus:
        found |= {"SLURM_STEP_GPUS": ",".join(map(str, gpus)), "SLURM_GPUS_ON_NODE": str(len(gpus))}
    return found


def step_spec(
    request: LaunchStep,
    job: ClaimedJob,
    base: LaunchSpec,
    node: str,
    binding: Binding,
    cards: Cards,
    pool: CorePool,
) -> StepSpec:
    """作业步的主人要的说明。作业没有绑核的不再细分。"""
    bind_mode, tell_binding = cpu_bind_mode(request.cpu_bind)
    order = socket_order(request.distribution)
    if not bind_mode and (request.threads_per_core or order):
        # 要了怎样用核的，不绑就没有意义。
        bind_mode = "cores"
    cores = base.cpu_ids or []
    if request.threads_per_core or order or bind_mode == "cores":
        cores = pool.arranged(cores, order or "block", request.threads_per_core, request.cpus_per_task)
    memory = memory_bind(request.mem_bind)
    directory = request.current_working_directory or job.current_working_directory
    programs = request.multi_prog or {}
    tasks = []
    for local, rank in enumerate(request.nodes[node]):
        own = bound_cores(bind_mode, local, cores, request.cpus_per_task)
        near = functools.partial(pool.near, cpu_ids=own or base.cpu_ids or ())
        tasks.append(
            TaskSpec(
                rank=rank,
                files=_files(request, job, node, rank, directory),
                env=_task_environment(request, node, binding, cards, local, near),
                cpu_ids=own,
                memory_nodes=memory.nodes(local, pool.numa_nodes(own or base.cpu_ids or ())),
                argv=programs.get(str(rank)),
            )
        )
    world = request.world or request.nodes
    outputs = [path for task in tasks for path in (task.files.stdout, task.files.stderr) if path]
    return StepSpec(
        node=node,
        step=f"{request.het_job_id or job.job_id}.{request.step_id}",
        tasks=tasks,
        argv=request.argv,
        env=_step_environment(request, job, base, node),
        cwd=directory,
        uid=base.uid,
        gid=base.gid,
        groups=base.groups,
        umask=(0o022 if base.umask is None else base.umask) if request.umask is None else request.umask,
        streams=request.streams,
        shared_files=len(set(outputs)) < len(outputs) or len(world) > 1,
        connection=request.connection,
        nodes=world,
        place=place_name(node, request.component),
        task_count=sum(map(len, world.values())),
        mpi=request.mpi,
        tell_binding=tell_binding,
        memory_preferred=memory.prefer,
        task_prolog=request.task_prolog,
        task_epilog=request.task_epilog,
        x11_cookie=_x11_cookie(request, place_name(node, request.component), job.runs_here),
    )


def _step_environment(request: LaunchStep, job: ClaimedJob, base: LaunchSpec, node: str) -> dict[str, str]:
    """各任务都有的变量；写了 srun -E 的，节点数与任务数照敲命令的环境里的，不照这一步的。"""
    given, own = request.environment, _variables(request, job, node)
    if given.get(PRESERVE_VARIABLE) == "1":
        own = {name: text for name, text in own.items() if name not in PRESERVED or name not in given}
    found = {**base.env, **given, **own}
    # 说给节点听的，任务里再起的 srun 不因它也这样。
    found.pop(PRESERVE_VARIABLE, None)
    return found


def _port_range(ports: Sequence[int] | None) -> str | None:
    """挨着的几个端口：12000-12003。"""
    if not ports:
        return None
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"


def _x11_cookie(request: LaunchStep, place: str, runs_script: bool) -> str | None:
    """本节点要转发 X11 的口令；不在其中的是 None。"""
    wanted, places = request.x11, list(request.world or request.nodes)
    if wanted is None or request.connection is None:
        return None
    here = {"batch": runs_script, "first": place == places[0], "last": place == places[-1]}.get(wanted.nodes, True)
    return wanted.cookie if here else None


def _files(request: LaunchStep, job: ClaimedJob, node: str, rank: int, directory: str) -> TaskFiles:
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
    wanted = {"stdin": request.stdin, "stdout": request.stdout, "stderr": request.stderr}
    found: dict[str, str | None] = {}
    for name, pattern in wanted.items():
        if pattern is not None and pattern.isdigit() and int(pattern) < request.tasks and (linked or name == "stdin"):
            pattern = None if int(pattern) == rank else "none"
        if pattern is None or pattern == "all":
            if linked:
                found[name] = None
                continue
            pattern = "none" if name == "stdin" else request.stdout or DEFAULT_STDOUT
        found[name] = "/dev/null" if pattern == "none" else expand_output_path(pattern, fields, directory)
    if request.stderr is None and request.stdout is not None:
        found["stderr"] = found["stdout"]
    return TaskFiles(**found)


def _variables(request: LaunchStep, job: ClaimedJob, node: str) -> dict[str, str]:
    """srun(1) 的 OUTPUT ENVIRONMENT VARIABLES 里属于一步、一个节点的；属于任务的由 worker/step 加。"""
    counts = [len(ranks) for ranks in request.nodes.values()]
    # 跨异构作业几个部分的一步：任务与节点的序号、总数是全部部分的（同 Slurm）。
    world = request.world or request.nodes
    tasks, place = sum(map(len, world.values())), place_name(node, request.component)
    node_list, connection = compress(request.nodes), request.connection
    address = connection.addresses[0] if connection is not None and connection.addresses else None
    port = connection.port if connection is not None else None
    values = {
        # 异构作业里总是第 0 个部分的（heterogeneous_jobs.html）。
        **({} if job.het_job_id is None else {"SLURM_JOB_ID": job.het_job_id, "SLURM_JOBID": job.het_job_id}),
        "SLURM_STEP_ID": request.step_id,
        "SLURM_STEPID": request.step_id,
        "SLURM_STEP_NODELIST": node_list,
        "SLURM_STEP_NUM_NODES": len(counts),
        "SLURM_STEP_NUM_TASKS": request.tasks,
        "SLURM_STEP_TASKS_PER_NODE": repeat_list(counts),
        "SLURM_NTASKS": tasks,
        "SLURM_NPROCS": tasks,
        "SLURM_NNODES": len(world),
        "SLURM_TASKS_PER_NODE": repeat_list(counts),
        "SLURM_NODEID": list(world).index(place),
        "SLURM_GTIDS": ",".join(map(str, request.nodes[node])),
        "SLURM_CPUS_ON_NODE": min(request.node_cpus.get(node) or job.cpus, job.cpus),
        "SLURMD_NODENAME": node,
        "SLURM_LAUNCH_NODE_IPADDR": address,
        "SLURM_SRUN_COMM_HOST": address,
        "SLURM_SRUN_COMM_PORT": port,
        "SLURM_STEP_LAUNCHER_PORT": port,
        "SLURM_STEP_RESV_PORTS": _port_range(request.reserved_ports),
    }
    return {name: str(value) for name, value in values.items() if value is not None}
