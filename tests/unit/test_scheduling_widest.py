"""用几个节点：写成一段的（-N 2-4）此刻有几个用几个，--use-min-nodes 取最少的，--spread-job 尽量摊开、摊匀。"""

from dataclasses import replace
from typing import Any

import pytest

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.feasibility import Kind, requirement
from scns_conductor.scheduling.job_requirements import Defaults, shape_of
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.shape import LICENSE
from scns_conductor.statements.table_columns import JOB_SPEC_DEFAULTS


def placed(
    placement: Placement = Placement.BEST_FIT, *, busy: int = 0, max_nodes: int | None = None, **asked: Any
) -> list[int]:
    """六个节点、各 4 个 CPU，前 busy 个满着：各节点分到几个 CPU。"""
    cluster = Cluster()
    for number in range(6):
        cluster.upsert_node(NodeFacts(f"n{number}", 4, 1000, switch=f"s{number // 3}"))
    cluster.set_partitions([PartitionFacts("p", max_nodes=max_nodes)])
    free = cluster.free[: cluster.count].copy()
    free[:busy, 0] = 0
    row = {**JOB_SPEC_DEFAULTS, "partition": "p", **asked}
    pools = row.pop("pools", ())
    shape = replace(shape_of(row, Defaults()), pools=pools)
    shares = place(cluster, shape, free, placement)
    return [] if shares is None else [share.cpus for share in shares]


@pytest.mark.parametrize(
    ("asked", "cpus"),
    [
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 2}, [1, 1, 1, 1]),
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 2, "use_min_nodes": True}, [1, 1]),
        ({"minimum_nodes": 1, "maximum_nodes": 3, "tasks": 1}, [1, 1, 1]),
        ({"minimum_nodes": 1, "maximum_nodes": 3, "tasks": 1, "use_min_nodes": True}, [1]),
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 8}, [2, 2, 2, 2]),
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 2, "busy": 3}, [1, 1, 1]),
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 2, "max_nodes": 3}, [1, 1, 1]),
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 2, "contiguous": True}, [1, 1, 1, 1]),
        # QOS 的上限是照最少的节点算的，管着的不多用；许可证不是。
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 2, "pools": (("qos:node", 2),)}, [1, 1]),
        ({"minimum_nodes": 2, "maximum_nodes": 4, "tasks": 2, "pools": ((f"{LICENSE}a", 1),)}, [1, 1, 1, 1]),
        ({"tasks": 4}, [4]),
        ({"tasks": 4, "spread_job": True}, [1, 1, 1, 1]),
        ({"tasks": 9, "spread_job": True}, [2, 2, 2, 1, 1, 1]),
        ({"tasks": 4, "maximum_nodes": 2, "spread_job": True}, [2, 2]),
        ({"tasks": 4, "placement": Placement.TOPOLOGY, "spread_job": True}, [1, 1, 1, 1]),
        ({"tasks": 4, "spread_job": True, "busy": 5}, [4]),
    ],
)  # fmt: skip
def test_how_many_nodes(asked: dict[str, Any], cpus: list[int]) -> None:
    assert placed(**asked) == cpus


def test_a_wide_job_is_placed_over_nodes_not_by_the_single_node_path() -> None:
    cluster = Cluster()
    cluster.upsert_node(NodeFacts("n", 4, 1000))
    row = {**JOB_SPEC_DEFAULTS, "partition": "", "minimum_nodes": 1, "maximum_nodes": 3, "tasks": 1}
    assert requirement(cluster, shape_of(row, Defaults()))[1] is Kind.GENERAL
    assert requirement(cluster, shape_of({**row, "use_min_nodes": True}, Defaults()))[1] is Kind.PLAIN
