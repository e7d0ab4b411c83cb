"""没有脚本的分配（salloc 与独立的 srun）：申请、等到、环境变量、交还。"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scns_conductor.client import TERMINAL_STATES, ClientError, JsonClient, Problem, Unreachable
from scns_conductor.core.task_layout import repeat_list
from scns_conductor.slurm.session import Fatal, refusal_details, say, slurm_error
from scns_conductor.slurm.table.job_values import cluster_name
from scns_conductor.slurm.table.times import epoch

FIRST_PAUSE_S, LAST_PAUSE_S = 0.01, 0.5
# 这么久还没有分到，就告诉用户在排队。
QUIET_S = 0.3
# 要了才有的变量（salloc(1)）。
ASKED_VARIABLES = frozenset({"SLURM_NTASKS", "SLURM_NPROCS", "SLURM_CPUS_PER_TASK"})
# 不给命令的：任务数由下面写，--export 说的是批处理的。
_NOT_FOR_COMMAND = ASKED_VARIABLES | {"SLURM_EXPORT_ENV"}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Revoked(Exception):
    """等着的时候用户不要了，或作业被取消了；number 是收到的信号，没有则为 0。"""

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self.number = number


def immediate_s(given: Mapping[str, str]) -> float | None:
    """-I[秒]：最多等多久，没有写是 None；写错了抛 Fatal。"""
    text = given.get("immediate")
    if text is None:
        return None
    if text and not text.isdigit():
        raise Fatal("Invalid --immediate specification")
    return float(text or 1)


def busy(what: str) -> Fatal:
    """-I 的时间之内没有等到。"""
    code = os.environ.get("SLURM_EXIT_IMMEDIATE", "")
    return Fatal(what, code=int(code) & 0xFF if code.isdigit() else 1, exact=code.isdigit())


def request(
    client: JsonClient, command: str, jobs: Sequence[Mapping[str, Any]], *, immediate: float | None, quiet: bool
) -> list[dict[str, Any]]:
    """申请并等到分配，几个的是异构作业的各个部分；返回各作业的详情（含 allocations）。

    被拒抛 Fatal，等不到抛 Revoked。
    """
    wanted = [{**job, "interactive": True, "submit_host": os.uname().nodename} for job in jobs]
    try:
        job_ids = [client.submit(wanted[0], "")] if len(wanted) == 1 else client.submit_heterogeneous(wanted)
    except ClientError as error:
        lines = [*refusal_details(error), f"Unable to allocate resources: {slurm_error(error)}"]
        if command == "salloc":
            lines = [f"Job submit/allocate failed: {slurm_error(error)}"]
        if isinstance(error, Problem) and error.code == "partition_unknown":
            lines.insert(
                0, f"invalid partition specified: {next(filter(None, (job.get('partition') for job in jobs)))}"
            )
        raise Fatal(*lines) from error
    try:
        with _interruptible():
            # 各个部分一起启动：后面的一会儿就认领好了。
            return [_wait(client, command, job_id, immediate=immediate, quiet=quiet) for job_id in job_ids]
    except BaseException:
        with contextlib.suppress(ClientError):
            client.cancel(job_ids[0])
        raise


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    def interrupted(number: int, _frame: Any) -> None:
        raise Revoked(number)

    old = {number: signal.signal(number, interrupted) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _wait(client: JsonClient, command: str, job_id: str, *, immediate: float | None, quiet: bool) -> dict[str, Any]:
    began, pause_s, told = time.monotonic(), FIRST_PAUSE_S, False
    while True:
        try:
            job = client.job(job_id)
        except Unreachable:
            # 服务器在重启：作业还在队里。
            time.sleep(LAST_PAUSE_S)
            continue
        held = [part for part in job["allocations"] if not part["released_at"]]
        if job["state"] == "RUNNING" and all(part["claimed_at"] for part in held):
            if told:
                say(command, f"job {job_id} has been allocated resources")
            return job
        if job["state"] in TERMINAL_STATES:
            say(command, f"error: Job allocation {job_id} has been revoked")
            raise Revoked
        waited = time.monotonic() - began
        if immediate is not None and waited > immediate:
            raise busy("Unable to allocate resources: Requested nodes are busy")
        if waited > QUIET_S and not told and not quiet and job["state"] == "PENDING":
            prefix = "Pending job allocation" if command == "salloc" else ""
            if prefix:
                say(command, f"{prefix} {job_id}")
            say(command, f"job {job_id} queued and waiting for resources")
            told = True
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LAST_PAUSE_S)


def give_back(client: JsonClient, job_id: str, exit_status: int) -> None:
    """交还；服务器一时不在就再试几次，仍不行只好告诉用户。"""
    for attempt in range(5):
        try:
            client.release_allocation(job_id, exit_status)
            return
        except Unreachable:
            time.sleep(0.2 * 2**attempt)
        except Problem as problem:
            if problem.status != 503:
                print(f"error: {slurm_error(problem)}", file=sys.stderr)
                return
            time.sleep(0.2 * 2**attempt)
    print(f"error: Unable to release job allocation {job_id}; use scancel {job_id}", file=sys.stderr)


def all_variables(jobs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """salloc 给命令的环境变量；异构作业的另有各个部分的，名字后面加 _HET_GROUP_n。"""
    found = variables(jobs[0])
    if len(jobs) > 1:
        found["SLURM_HET_SIZE"] = str(len(jobs))
        for index, job in enumerate(jobs):
            found |= {f"{name}_HET_GROUP_{index}": value for name, value in variables(job).items()}
    return found


def command_environment(own: Mapping[str, str], jobs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """salloc 的命令的环境：自己的，加上分配的；在别的作业里 salloc 的，那个作业的任务数不算。"""
    return {name: text for name, text in own.items() if name not in ASKED_VARIABLES} | all_variables(jobs)


def variables(job: Mapping[str, Any]) -> dict[str, str]:
    """salloc 给命令的环境变量（salloc(1) 的 OUTPUT ENVIRONMENT VARIABLES）。"""
    parts: Sequence[Mapping[str, Any]] = [part for part in job["allocations"] if not part["released_at"]]
    asked = job["environment"]
    distribution, limit = job["distribution"] or "", job["time_limit"]
    started = epoch(job["start_time"])
    tasks_asked = "SLURM_NTASKS" in asked or job["tasks_per_node"] is not None or job["tasks"] > len(parts)
    # 没有说几个任务的：各节点分到的 CPU 放得下几个（独占的不止一个），同批处理的。
    tasks = [part["tasks"] if tasks_asked else max(1, part["cpus"] // job["cpus_per_task"]) for part in parts]
    gpus = sorted({index for name, ids in _first_cards(parts) if name.split(":")[0] == "gpu" for index in ids})
    values = {
        # 选项写了什么就是什么的（GPU、绑定、布局……），提交时已经写在作业的环境里。
        **{name: text for name, text in asked.items() if name.startswith("SLURM_") and name not in _NOT_FOR_COMMAND},
        "SLURM_JOB_ID": job["job_id"],
        "SLURM_JOBID": job["job_id"],
        "SLURM_JOB_NAME": job["name"],
        "SLURM_JOB_USER": job["user_name"],
        "SLURM_JOB_ACCOUNT": job["account"],
        "SLURM_JOB_PARTITION": str(job["partition"]).split(",")[0],
        "SLURM_JOB_QOS": job["qos"],
        "SLURM_JOB_NODELIST": job["node_list"],
        "SLURM_NODELIST": job["node_list"],
        "SLURM_JOB_NUM_NODES": len(parts),
        "SLURM_NNODES": len(parts),
        "SLURM_JOB_CPUS_PER_NODE": repeat_list([part["cpus"] for part in parts]),
        "SLURM_TASKS_PER_NODE": repeat_list(tasks),
        "SLURM_NTASKS": job["tasks"] if tasks_asked else None,
        "SLURM_NPROCS": job["tasks"] if tasks_asked else None,
        "SLURM_NTASKS_PER_NODE": job["tasks_per_node"],
        "SLURM_CPUS_PER_TASK": job["cpus_per_task"] if "SLURM_CPUS_PER_TASK" in asked else None,
        "SLURM_MEM_PER_NODE": job["memory_per_node"] or None,
        "SLURM_MEM_PER_CPU": job["memory_per_cpu"],
        "SLURM_SUBMIT_DIR": job["current_working_directory"],
        "SLURM_SUBMIT_HOST": job["submit_host"],
        "SLURM_CONTAINER": job["container"],
        "SLURM_CONTAINER_IMAGE": job["container_image"],
        "SLURM_CLUSTER_NAME": cluster_name(),
        "SLURM_JOB_RESERVATION": job["reservation"],
        "SLURM_JOB_START_TIME": None if started is None else int(started),
        "SLURM_JOB_END_TIME": None if started is None or limit is None else int(started) + limit,
        "SLURM_JOB_GPUS": ",".join(map(str, gpus)) or None,
        "SLURM_DISTRIBUTION": distribution.partition("=")[0] or None,
        "SLURM_DIST_PLANESIZE": distribution.partition("=")[2] or None,
        "SLURM_NODE_ALIASES": "(null)",
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _first_cards(parts: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[int]]]:
    """第一个节点上分到的各种设备的序号。"""
    return list((parts[0].get("gres_ids") or {}).items()) if parts else []
