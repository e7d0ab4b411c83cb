"""建立作业步：等 CPU、把服务器的拒绝换成 srun 的话、节点没有按时连过来时再送一遍消息。"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scns_conductor.client import ClientError, JsonClient, Problem
from scns_conductor.core.step_wire import component_of_place, node_of_place, place_name
from scns_conductor.slurm.session import Fatal, in_english, say, slurm_error
from scns_conductor.slurm.submit.allocation import busy

# 缺的是哪一种 -> Slurm 的话。
_LACKING = {
    "gres": "Invalid generic resource (gres) specification",
    "memory": "Memory required by task is not available",
    "nodes": "Requested node configuration is not available",
    "resv_ports": "Invalid number of ports requested",
}
BUSY_FIRST_PAUSE_S, BUSY_LAST_PAUSE_S = 0.05, 2.0


def create(
    client: JsonClient,
    job_id: str,
    fields: dict[str, Any],
    *,
    quiet: bool,
    command: str = "srun",
    immediate: float | None = None,
) -> dict[str, Any]:
    """建立作业步；CPU 被别的步占着就等（srun 的 retrying），immediate 是至多等几秒。"""
    return _until_free(
        job_id, fields, lambda: client.create_step(job_id, fields), quiet=quiet, command=command, immediate=immediate
    )


def create_together(
    client: JsonClient,
    job_id: str,
    parts: Sequence[tuple[int, Mapping[str, Any]]],
    *,
    quiet: bool,
    immediate: float | None = None,
) -> dict[str, Any]:
    """建立跨异构作业几个部分的一步：(第几个部分, 要求)；等法同 create。"""
    return _until_free(
        job_id, parts[0][1], lambda: client.create_het_step(job_id, parts), quiet=quiet, immediate=immediate
    )


def _until_free(
    job_id: str,
    fields: Mapping[str, Any],
    attempt: Callable[[], dict[str, Any]],
    *,
    quiet: bool,
    command: str = "srun",
    immediate: float | None = None,
) -> dict[str, Any]:
    pause_s, told, began = BUSY_FIRST_PAUSE_S, False, time.monotonic()
    while True:
        try:
            created = attempt()
            if told and not quiet:
                say(command, f"Step created for job {job_id}")
            return created
        except Problem as problem:
            if problem.code != "step_busy":
                raise Fatal(*_refusal(job_id, problem, fields)) from problem
            if immediate is not None and time.monotonic() - began > immediate:
                raise busy(f"Unable to create step for job {job_id}: Requested nodes are busy") from problem
            if not told and not quiet and time.monotonic() - began > 0.5:
                text = "Job step creation temporarily disabled, retrying (Requested nodes are busy)"
                say(command, text)
                told = True
        except ClientError as error:
            raise Fatal(f"Unable to create step for job {job_id}: {slurm_error(error)}") from error
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, BUSY_LAST_PAUSE_S)


def _refusal(job_id: str, problem: Problem, fields: Mapping[str, Any]) -> list[str]:
    if problem.code == "step_too_large":
        lacking = problem.errors[0].get("field") if problem.errors else None
        why = _LACKING.get(str(lacking), "More processors requested than permitted")
        return [
            f"Unable to create step for job {job_id}: {why}",
            *([] if lacking in _LACKING else [in_english(problem)]),
        ]
    if problem.code == "job_not_found":
        return [
            f"Unable to confirm allocation for job {job_id}: Invalid job id specified",
            f"Check SLURM_JOB_ID environment variable. Expired or invalid job {job_id}",
        ]
    why = {"job_not_running": "Job/step already completing or completed"}.get(problem.code, slurm_error(problem))
    return [f"Unable to confirm allocation for job {job_id}: {why}"]


def missing_together(client: JsonClient, job_id: str, step_id: int, places: list[str]) -> Sequence[str]:
    """missing，步跨着异构作业的几个部分：各问各的部分。"""
    groups: dict[int, list[str]] = defaultdict(list)
    for place in places:
        groups[component_of_place(place)].append(node_of_place(place))
    return [
        place_name(node, component)
        for component, names in groups.items()
        for node in missing(client, f"{job_id}+{component}", step_id, names)
    ]


def missing(client: JsonClient, job_id: str, step_id: int, names: list[str]) -> Sequence[str]:
    """没有按时连过来的节点：请系统再送一遍消息；系统说已经结束的不会再来。"""
    try:
        found = client.step(job_id, step_id)
        ended = [name for name in names if name not in found["pending_nodes"]]
        if found["state"] not in ("RUNNING", "SUSPENDED"):
            return names
        if len(ended) < len(names):
            client.relaunch_step(job_id, step_id)
        return ended
    except ClientError as error:
        return names if isinstance(error, Problem) and error.status in (404, 409) else []
