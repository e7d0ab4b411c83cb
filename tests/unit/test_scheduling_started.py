"""假设计划好的启动了：看前面会怎样的几处（时间片的预告、什么压着利用率）照它占住资源。"""

import math

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeFacts, PartitionFacts
from scns_conductor.scheduling.plan import PlannedStart
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape
from scns_conductor.scheduling.started import started


def first_start(limit_s: float) -> tuple[Cluster, PlannedStart]:
    """写了两个分区，只有第二个分区的节点放得下，那个节点还关着。"""
    cluster = Cluster()
    cluster.upsert_node(NodeFacts("small", 1, 100))
    cluster.upsert_node(NodeFacts("off", 4, 100, boot_s=30.0))
    cluster.set_partitions([PartitionFacts("debug", frozenset({"small"})), PartitionFacts("batch", frozenset({"off"}))])
    queue = Queue()
    shape = Shape(cpus_per_task=4, partition="debug,batch", qos="high", owners=("user:a",), exclusive_to="user:a")
    queue.upsert(PendingJob(7, shape, limit_s, priority=3.0))
    (start,) = plan(cluster, queue, 1000.0, Policy()).starts
    return cluster, start


def test_it_is_in_the_partition_it_was_placed_by_and_its_limit_begins_when_the_node_is_on() -> None:
    cluster, start = first_start(60.0)
    found = started(cluster, start, 8, 1000.0)
    assert (found.job_id, found.partition, found.start_time, found.expected_end) == (8, "batch", 1000.0, 1090.0)
    assert (found.qos, found.priority, found.owners, found.exclusive_to) == ("high", 3.0, ("user:a",), "user:a")
    cluster.allocate(found)
    assert cluster.free[1, 0] == 0


def test_without_a_limit_it_never_ends() -> None:
    assert started(*first_start(math.inf), 8, 1000.0).expected_end == NEVER_ENDS
