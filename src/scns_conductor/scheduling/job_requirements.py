"""jobs 的一行 -> 调度核心的值：形状与资格。纯函数。"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scns_conductor.core.dependency import Dependency, Outcome, parse_dependency
from scns_conductor.core.gres import parse_gres
from scns_conductor.core.hostlist import expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.scheduling.eligibility import Request
from scns_conductor.scheduling.shape import LICENSE, Shape

# 调度要的列；时刻换成 Unix 秒。
COLUMNS = """
    job_id, state, revision, user_name, name, account, partition, qos, reservation, tasks, tasks_per_node,
    cpus_per_task, minimum_nodes, maximum_nodes, minimum_cpus_per_node, memory_per_node, memory_per_cpu, memory_per_gpu,
    temporary_disk_per_node, tres_per_job, tres_per_node, tres_per_task, constraints, required_nodes, excluded_nodes,
    exclusive, exclusive_to, mcs_label, oversubscribe, contiguous, spread_job, use_min_nodes,
    sockets_per_node, cores_per_socket, threads_per_core, tasks_per_core,
    tasks_per_socket, core_specification, thread_specification, prefer, licenses, required_switches,
    maximum_switch_wait_time, time_limit, time_minimum, extract(epoch FROM begin_time)::float8 AS begin_time,
    extract(epoch FROM deadline)::float8 AS deadline, dependency, kill_on_invalid_dependency, hold, priority, nice,
    extract(epoch FROM submit_time)::float8 AS submit_time, array_job_id, array_task_id, array_remaining,
    array_base, array_step, CASE WHEN array_step = 0 AND dependency IS NOT NULL THEN array_listed END AS array_listed,
    array_max_tasks, het_job_id, het_job_offset, het_job_id_set, reason, error_msg,
    extract(epoch FROM expected_start_time)::float8 AS expected_start_time
"""


@dataclass(frozen=True, slots=True)
class Defaults:
    """没有写内存的作业按每 CPU 多少计（MiB），0 是不占内存；--switches 至多等多少秒。"""

    memory_per_cpu: int = 0
    max_switch_wait_s: int = 300


def license_pools(text: str | None) -> tuple[tuple[str, int], ...]:
    """许可证的写法 -> 池与数目。"""
    return tuple((LICENSE + name, count) for name, count in parse_licenses(text))


def shape_of(row: Mapping[str, Any], defaults: Defaults) -> Shape:
    """要求 -> 形状；里面有写法不对的（提交时本该拦下）抛 ValueError。"""
    nodes = max(1, row["minimum_nodes"])
    gres = parse_gres(row["tres_per_node"] or "")
    whole = parse_gres(row["tres_per_job"] or "")
    for name, count in whole.items():
        gres[name] = gres.get(name, 0) + -(-count // nodes)
    spreads = nodes == 1 and row["maximum_nodes"] is None and not row["required_nodes"]
    memory_per_cpu = row["memory_per_cpu"]
    if row["memory_per_node"] is None and memory_per_cpu is None and row["memory_per_gpu"] is None:
        memory_per_cpu = defaults.memory_per_cpu or None
    return Shape(
        tasks=max(row["tasks"], nodes),
        cpus_per_task=row["cpus_per_task"],
        tasks_per_node=row["tasks_per_node"],
        minimum_nodes=nodes,
        maximum_nodes=row["maximum_nodes"],
        minimum_cpus_per_node=row["minimum_cpus_per_node"] or 0,
        memory_per_node=row["memory_per_node"],
        memory_per_cpu=memory_per_cpu,
        memory_per_gpu=row["memory_per_gpu"],
        temporary_disk=row["temporary_disk_per_node"] or 0,
        gres_per_node=tuple(sorted(gres.items())),
        gres_per_task=tuple(sorted(parse_gres(row["tres_per_task"] or "").items())),
        exclusive=row["exclusive"] or bool(row["core_specification"] or row["thread_specification"]),
        oversubscribe=row["oversubscribe"],
        constraints=row["constraints"],
        required_nodes=tuple(expand(row["required_nodes"])) if row["required_nodes"] else (),
        excluded_nodes=tuple(expand(row["excluded_nodes"])) if row["excluded_nodes"] else (),
        partition=row["partition"],
        reservation=row["reservation"],
        pools=license_pools(row["licenses"]),
        time_minimum_s=row["time_minimum"],
        switches=row["required_switches"],
        contiguous=row["contiguous"],
        widest=_widest(row, nodes),
        spread=row["spread_job"],
        sockets_per_node=row["sockets_per_node"] or 1,
        cores_per_socket=row["cores_per_socket"] or 1,
        threads_per_core=row["threads_per_core"],
        tasks_per_core=row["tasks_per_core"],
        tasks_per_socket=row["tasks_per_socket"],
        spared_cores=row["core_specification"] or 0,
        spared_threads=row["thread_specification"] or 0,
        prefer=row["prefer"],
        gres_per_job=tuple(sorted(whole.items())) if spreads and max(whole.values(), default=0) > 1 else (),
    )


def _widest(row: Mapping[str, Any], least: int) -> int:
    """有的话用到几个节点；只要最少的是 0。写成一段的（-N 2-4）取多的（sbatch(1)），没有说几个任务的一个节点一个。"""
    most, tasks = row["maximum_nodes"], max(row["tasks"], least)
    if row["spread_job"]:
        return int(min(most or tasks, tasks) if tasks > least else most or least)
    if most is None or most <= least or row["use_min_nodes"]:
        return 0
    default = least * (row["tasks_per_node"] or 1)
    return int(most if row["tasks"] == default else min(most, tasks))


def owners_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """作业算谁的：它的用户，写了标签的还有标签。"""
    label = row["mcs_label"]
    return (f"user:{row['user_name']}", *([] if label is None else [f"mcs:{label}"]))


def exclusive_to(row: Mapping[str, Any]) -> str | None:
    """它的节点上只许谁的作业；不管是 None。"""
    word = row["exclusive_to"]
    return None if word is None else next((name for name in owners_of(row) if name.startswith(f"{word}:")), None)


def dependency_of(row: Mapping[str, Any]) -> Dependency | None:
    """依赖；没有是 None。"""
    return parse_dependency(row["dependency"]) if row["dependency"] else None


def eligibility_request(row: Mapping[str, Any], dependency: Outcome | None) -> Request:
    """与资格有关的部分。"""
    return Request(
        hold=row["hold"],
        begin_time=row["begin_time"],
        deadline=row["deadline"],
        dependency=dependency,
        partitions=tuple(row["partition"].split(",")),
        account=row["account"],
        qos=row["qos"],
        time_limit_s=row["time_limit"],
        minimum_nodes=row["minimum_nodes"],
        user=row["user_name"],
        reservation=row["reservation"],
        time_minimum_s=row["time_minimum"],
    )


def priority_of(row: Mapping[str, Any]) -> float:
    """先提交先排时的优先级：管理员指定的，减去 nice。"""
    return float((row["priority"] or 0) - row["nice"])
