"""重放线上系统时的集群与策略：线上的节点、分区、许可证，连同假如加上的节点、换的策略。"""

from collections.abc import Sequence
from dataclasses import replace

from scns_conductor.core.replay_words import LIVE, NodeGroup
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.shape import LICENSE
from scns_conductor.simulator.live import LiveSystem
from scns_conductor.simulator.policy_choice import PolicyChoice

# 次序照预测的与照次序的，保留的名额缺省不同（settings.backfill_depth）。
PREDICTED_DEPTH, ORDERED_DEPTH = 1, 100


def live_cluster(system: LiveSystem, added: Sequence[NodeGroup]) -> Cluster:
    """线上的节点与分区；加上的节点叫 added1、added2……没有写 ALL 的分区时归第一个。"""
    cluster = Cluster()
    nodes = live_nodes(system, added)
    for node in nodes:
        cluster.upsert_node(node)
    cluster.set_partitions(_with_added(system.partitions, [node.name for node in nodes[len(system.nodes) :]]))
    for name, count in system.licenses.items():
        cluster.set_pool(LICENSE + name, count, "Licenses")
    return cluster


def live_nodes(system: LiveSystem, added: Sequence[NodeGroup]) -> list[NodeFacts]:
    """线上的节点与加上的，次序就是集群里的。"""
    groups = [group for group in added for _ in range(group.count)]
    return system.nodes + [
        NodeFacts(f"added{number}", group.cpus, group.memory_mb, {"gpu": group.gpus} if group.gpus else {})
        for number, group in enumerate(groups, start=1)
    ]


def _with_added(partitions: Sequence[PartitionFacts], names: Sequence[str]) -> list[PartitionFacts]:
    if not names or any(each.nodes is None for each in partitions):
        return list(partitions)
    first = partitions[0]
    return [replace(first, nodes=(first.nodes or frozenset()) | set(names)), *partitions[1:]]


def live_policy(system: LiveSystem, choice: PolicyChoice) -> Policy:
    """线上的策略；choice 换了的照它。"""
    policy = replace(system.policy, tells_reserved=system.preemption is not None or system.slice_s is not None)
    if choice.order != LIVE or choice.backfill != LIVE:
        policy = replace(policy, backfill=choice.core_backfill, shortest_first=choice.shortest_first)
        if choice.shortest_first != system.policy.shortest_first:
            # 名额各有各的缺省；换了别的策略，线上写的深度不合用。
            policy = replace(policy, depth=PREDICTED_DEPTH if choice.shortest_first else ORDERED_DEPTH)
    return policy
