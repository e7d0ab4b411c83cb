"""计划的代价：数执行了几次函数调用、占了几个字节，与机器快慢无关；随队列的长短变的东西一旦逐个作业做，就失败。"""

import tracemalloc

from function_calls import calls
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1e9
NODES = 20
POLICY = Policy(depth=50, most_starts=200)


def cluster_of(nodes: int) -> Cluster:
    cluster = Cluster()
    for number in range(nodes):
        cluster.upsert_node(NodeFacts(f"n{number}", 64, 256_000))
    return cluster


def queue_of(jobs: int, shapes: int) -> Queue:
    queue = Queue()
    for number in range(jobs):
        kind = number % shapes
        shape = Shape(cpus_per_task=1 + kind % 32, memory_per_cpu=500 + kind)
        queue.upsert(PendingJob(number + 1, shape, 600.0 * (1 + kind % 7)))
    return queue


def full(jobs: int, shapes: int, nodes: int = NODES) -> int:
    # 头一遍另有一次性的花费（numpy 用到才装载的模块）。
    plan(cluster_of(nodes), queue_of(jobs, shapes), NOW, POLICY)
    cluster, queue = cluster_of(nodes), queue_of(jobs, shapes)
    return calls(lambda: plan(cluster, queue, NOW, POLICY))


def one_end(jobs: int, shapes: int) -> int:
    """装满之后一个作业结束的那次增量计划。"""
    cluster, queue, planner = cluster_of(NODES), queue_of(jobs, shapes), Planner(POLICY)
    started = []
    while (decided := planner.plan(cluster, queue, NOW)).starts:
        for start in decided.starts:
            queue.remove(start.job.job_id)
            cluster.allocate(RunningJob(start.job.job_id, NOW + start.job.time_limit_s, start.shares))
            started.append(start.job.job_id)
    cluster.release(started[len(started) // 2])
    return calls(lambda: planner.plan(cluster, queue, NOW + 1))


def test_identical_jobs_are_planned_together() -> None:
    """启动的一样多时，排队的多十倍也不多花。"""
    assert full(30_000, 1) < 1.1 * full(3_000, 1)


def test_the_cost_does_not_depend_on_how_long_the_queue_is_but_on_its_shapes() -> None:
    assert full(30_000, 30) < 1.2 * full(3_000, 30)
    assert full(8_000, 400) < 5 * full(8_000, 100)


def test_the_cost_grows_no_faster_than_the_nodes() -> None:
    assert full(3_000, 30, nodes=200) < 12 * full(3_000, 30, nodes=NODES)


def test_one_ended_job_costs_the_same_whatever_waits() -> None:
    assert one_end(30_000, 30) < 1.1 * one_end(3_000, 30)


def test_a_pending_job_of_a_common_shape_is_under_half_a_kibibyte() -> None:
    """只是核心里的一份；调度器另外记的（worker.scheduler.memory）不算，合起来的目标是 1 KiB。"""
    queue_of(100, 10)
    tracemalloc.start()
    try:
        queue = queue_of(20_000, 10)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(queue.jobs) == 20_000
    assert size / 20_000 < 512


def newcomer(waiting: int) -> int:
    """一个节点，队首等着整个节点，后面的 CPU 够而内存不够：这时又到一个。"""
    cluster, queue, planner = cluster_of(1), Queue(), Planner(Policy())
    cluster.allocate(RunningJob(1, NOW + 900, (NodeShare(0, 2, 255_000),)))
    queue.upsert(PendingJob(2, Shape(cpus_per_task=64, maximum_nodes=1), 600.0))
    for number in range(3, 3 + waiting):
        queue.upsert(PendingJob(number, Shape(memory_per_node=2_000, maximum_nodes=1), 600.0 + number))
    assert not planner.plan(cluster, queue, NOW, complete=False).starts
    queue.upsert(PendingJob(1_000_000, Shape(maximum_nodes=1), 60.0))
    started: list[int] = []

    def look() -> None:
        started.extend(start.job.job_id for start in planner.plan(cluster, queue, NOW + 1, complete=False).starts)

    used = calls(look)
    assert started == [1_000_000]
    return used


def test_a_newcomer_behind_a_blocked_job_is_all_that_is_looked_at() -> None:
    newcomer(10)
    assert newcomer(1_000) == newcomer(10)
