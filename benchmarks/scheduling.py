"""调度核心的速度：python benchmarks/scheduling.py [--json FILE] [--quick] [--goals]。

每项旁边是同一次运行里的纯 Python 先来先服务（逐个作业、逐个节点），比值与机器无关。都是 CPU 秒（只有一个线程）：
别的程序同时在跑也作数。--goals 只量最大的两项：两百万个作业、一千种形状、十万个节点；一百万个同形的、一万个节点。
"""

import argparse
import gc
import json
import os
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, RunningJob
from scns_conductor.scheduling.plan import Plan, PlannedStart
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1e9
DEPTH = 100


def build_cluster(nodes: int) -> Cluster:
    cluster = Cluster()
    for number in range(nodes):
        cluster.upsert_node(NodeFacts(f"n{number:05}", 64, 256_000))
    return cluster


def build_queue(jobs: int, shapes: int) -> Queue:
    """shapes 种要求（CPU、内存、时限），轮流出现；种子固定。"""
    dice = random.Random(1)
    kinds = [
        (
            Shape(cpus_per_task=dice.choice([1, 2, 4, 8, 16, 32, 64]), memory_per_cpu=500 + 7 * number),
            600.0 * dice.randint(1, 200),
        )
        for number in range(shapes)
    ]
    queue = Queue()
    for number in range(jobs):
        shape, limit_s = kinds[number % shapes]
        queue.upsert(PendingJob(number + 1, shape, limit_s))
    return queue


def apply_starts(cluster: Cluster, queue: Queue, decided: Plan) -> None:
    for start in decided.starts:
        queue.remove(start.job.job_id)
        cluster.allocate(RunningJob(start.job.job_id, NOW + start.job.time_limit_s, start.shares))


def plain_fifo_rate(jobs: int, nodes: int, shapes: int) -> float:
    """对照：一个个作业、一个个节点地找第一个放得下的；每秒放置几个。"""
    queue = build_queue(jobs, shapes)
    free = [[64, 256_000] for _ in range(nodes)]
    begin = time.process_time()
    placed = 0
    for job in queue.jobs.values():
        cpus = job.shape.cpus_per_task
        memory = cpus * (job.shape.memory_per_cpu or 0)
        for row in free:
            if row[0] >= cpus and row[1] >= memory:
                row[0] -= cpus
                row[1] -= memory
                placed += 1
                break
        else:
            break
    return placed / (time.process_time() - begin)


def full_and_incremental(jobs: int, nodes: int, shapes: int) -> dict[str, float]:
    """空集群上的第一个计划；装满之后的计划（为 DEPTH 个与 1 个保留）；一个个作业结束之后的增量计划。"""
    cluster, queue = build_cluster(nodes), build_queue(jobs, shapes)
    gc.collect()
    gc.freeze()
    found: dict[str, float] = {}
    planner = Planner(Policy(depth=DEPTH))
    begin = time.process_time()
    first = planner.plan(cluster, queue, NOW)
    found["full_s"] = time.process_time() - begin
    found["starts"] = len(first.starts)
    found["placements_per_s"] = len(first.starts) / found["full_s"]
    found["reservations"] = len(first.reservations)
    apply_starts(cluster, queue, first)
    for name, depth in (("again_depth100_s", DEPTH), ("again_depth1_s", 1)):
        begin = time.process_time()
        plan(cluster, queue, NOW + 1, Policy(depth=depth))
        found[name] = time.process_time() - begin
    planner.plan(cluster, queue, NOW + 1)
    found["one_end_s"], found["one_end_worst_s"] = one_by_one(planner, cluster, queue, first.starts[5:5005:50])
    number = max(queue.jobs) + 1
    queue.upsert(PendingJob(number, Shape(cpus_per_task=3, memory_per_cpu=123), 700.0))
    begin = time.process_time()
    planner.plan(cluster, queue, NOW + 200)
    found["one_submit_s"] = time.process_time() - begin
    return found


def identical(jobs: int, nodes: int, depth: int = 1) -> dict[str, float]:
    """一百万个同形、有时限的作业，从空集群起，为 depth 个保留。"""
    cluster, queue = build_cluster(nodes), build_queue(jobs, 1)
    # 线上的调度器装载之后也这样做。
    gc.collect()
    gc.freeze()
    begin = time.process_time()
    decided = plan(cluster, queue, NOW, Policy(depth=depth))
    seconds = time.process_time() - begin
    return {"plan_s": seconds, "starts": len(decided.starts), "placements_per_s": len(decided.starts) / seconds}


def million(nodes: int, jobs: int, shapes: int) -> dict[str, float]:
    """许多个排队、许多种形状：第一个计划，装满之后一个作业结束（中位数、最长）各要多久；每个作业多少字节。"""
    before = resident_kb()
    cluster, queue = build_cluster(nodes), build_queue(jobs, shapes)
    found = {"bytes_per_job": (resident_kb() - before) * 1024 / jobs}
    gc.collect()
    gc.freeze()
    planner = Planner(Policy(depth=DEPTH))
    begin = time.process_time()
    first = planner.plan(cluster, queue, NOW)
    found["full_s"] = time.process_time() - begin
    apply_starts(cluster, queue, first)
    planner.plan(cluster, queue, NOW + 1)
    found["starts"], found["reservations"] = len(first.starts), len(first.reservations)
    found["one_end_s"], found["one_end_worst_s"] = one_by_one(planner, cluster, queue, first.starts[5:2005:40])
    return found


def one_by_one(planner: Planner, cluster: Cluster, queue: Queue, starts: Sequence[PlannedStart]) -> tuple[float, float]:
    """starts 一个个结束，每次都计划；返回一次计划的 (中位数, 最长)。"""
    samples = []
    for number, start in enumerate(starts):
        cluster.release(start.job.job_id)
        begin = time.process_time()
        decided = planner.plan(cluster, queue, NOW + 2 + number)
        samples.append(time.process_time() - begin)
        apply_starts(cluster, queue, decided)
    samples.sort()
    return samples[len(samples) // 2], samples[-1]


def resident_kb() -> int:
    """本进程此刻的常驻内存（KiB）。"""
    return int(Path("/proc/self/statm").read_text().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)


def single_submit() -> float:
    """一个空闲节点上提交一个作业的计划时间（秒，中位数）。"""
    samples = []
    for _ in range(201):
        cluster, queue = build_cluster(1), build_queue(1, 1)
        begin = time.process_time()
        plan(cluster, queue, NOW, Policy())
        samples.append(time.process_time() - begin)
    return sorted(samples)[100]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="结果另存为 JSON")
    parser.add_argument("--quick", action="store_true", help="规模缩到十分之一")
    parser.add_argument("--goals", action="store_true", help="只量最大的两项")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    jobs, nodes = 100_000 // scale, 10_000 // scale
    result = goals(scale) if options.goals else everything(jobs, nodes, scale)
    result["max_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    _print("", result)


def goals(scale: int) -> dict:
    return {
        "identical_1m_10k_nodes_depth100": identical(1_000_000 // scale, 10_000 // scale, DEPTH),
        "2m_1000_shapes_100k_nodes": million(100_000 // scale, 2_000_000 // scale, 1000 // scale),
    }


def everything(jobs: int, nodes: int, scale: int) -> dict:
    return {
        "jobs": jobs,
        "nodes": nodes,
        "single_submit_s": single_submit(),
        "shapes_500": full_and_incremental(jobs, nodes, 500),
        "identical": identical(1_000_000 // scale, nodes),
        "million_300_shapes": million(nodes, 1_000_000 // scale, 300),
        "plain_fifo_500_per_s": plain_fifo_rate(jobs, nodes, 500),
        "curve_shapes": {n: full_and_incremental(jobs, nodes, n)["full_s"] for n in (125, 250, 500)},
        "curve_nodes": {n: full_and_incremental(jobs, n, 500)["full_s"] for n in (nodes // 4, nodes // 2, nodes)},
    }


def _print(prefix: str, values: dict) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _print(f"{prefix}{name}.", value)
        else:
            sys.stdout.write(f"{prefix + str(name):42} {value:>14,.5g}\n")


if __name__ == "__main__":
    main()
