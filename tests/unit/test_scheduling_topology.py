"""交换机树：限了交换机数的不超过，能用更小的子树就不用更大的；与穷举对照。"""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.shape import Shape

PATHS = ("root/r1/l1", "root/r1/l2", "root/r2/l3", "root/r2/l4")


def cluster_of(leaves: list[int], busy: list[int]) -> Cluster:
    cluster = Cluster()
    for number, leaf in enumerate(leaves):
        cluster.upsert_node(NodeFacts(f"n{number}", 4, 1000, switch=PATHS[leaf]))
    cluster.set_partitions([PartitionFacts("main")])
    for number, cpus in enumerate(busy[: len(leaves)]):
        if cpus:
            cluster.allocate(RunningJob(number, 1e9, (NodeShare(number, cpus, 0),)))
    return cluster


def within(cluster: Cluster, shape: Shape, prefixes: tuple[str, ...]) -> bool:
    """只用这些子树下的节点放得下。"""
    mask = np.array([any(f"{path}/".startswith(f"{prefix}/") for prefix in prefixes) for path in cluster.switches])
    free = cluster.free[: cluster.count]
    plain = Shape(shape.tasks, minimum_nodes=shape.minimum_nodes, maximum_nodes=shape.maximum_nodes, partition="main")
    return place(cluster, plain, free, Placement.BEST_FIT, mask & cluster.eligible(plain)) is not None


@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.integers(1, 10), st.integers(1, 4))
def test_contiguous_nodes_are_next_to_each_other_by_name_and_found_when_there_are_any(
    busy: list[int], tasks: int, least: int
) -> None:
    # 登记的先后与名字的次序不同，n10 在 n9 之后。
    cluster, count = Cluster(), len(busy)
    names = [f"n{number}" for number in range(12 - count, 12)]
    for name in reversed(names):
        cluster.upsert_node(NodeFacts(name, 4, 1000))
    for number, (name, cpus) in enumerate(zip(names, busy, strict=True)):
        if cpus:
            cluster.allocate(RunningJob(number, 1e9, (NodeShare(cluster.index[name], cpus, 0),)))
    tasks = max(tasks, least)
    shape = Shape(tasks, minimum_nodes=least, contiguous=True)
    free = [4 - cpus for cpus in busy]
    runs = [(size, begin) for size in range(least, min(tasks, count) + 1) for begin in range(count - size + 1)]
    fitting = [
        (size, begin)
        for size, begin in runs
        if all(free[begin : begin + size]) and sum(free[begin : begin + size]) >= tasks
    ]
    found = place(cluster, shape, cluster.free[:count], Placement.BEST_FIT)
    assert (found is not None) == bool(fitting)
    if found is not None:
        used = sorted(names.index(cluster.names[share.node]) for share in found)
        assert used == list(range(used[0], used[0] + len(used)))
        assert sum(share.tasks for share in found) == tasks


Leaves = st.lists(st.integers(0, 3), min_size=1, max_size=8)
Busy = st.lists(st.integers(0, 4), min_size=8, max_size=8)
Sizes = st.tuples(st.integers(1, 12), st.integers(1, 5))


@given(Leaves, Busy, Sizes, st.integers(1, 3))
def test_no_more_switches_than_asked_and_none_only_when_none_fits(
    leaves: list[int], busy: list[int], size: tuple[int, int], switches: int
) -> None:
    tasks, nodes = max(size), size[1]
    cluster = cluster_of(leaves, busy)
    shape = Shape(tasks, minimum_nodes=nodes, partition="main", switches=switches)
    found = place(cluster, shape, cluster.free[: cluster.count], Placement.BEST_FIT)
    names = sorted(set(cluster.switches))
    possible = any(
        within(cluster, shape, chosen) for count in range(1, switches + 1) for chosen in combinations(names, count)
    )
    assert (found is not None) == possible
    if found is not None:
        used = {cluster.switches[share.node] for share in found}
        assert len(used) <= switches
        assert sum(share.tasks for share in found) == tasks
        assert all(share.cpus <= cluster.free[share.node, 0] for share in found)


@given(Leaves, Busy, Sizes)
def test_the_smallest_subtree_that_fits_is_used(leaves: list[int], busy: list[int], size: tuple[int, int]) -> None:
    tasks, nodes = max(size), size[1]
    cluster = cluster_of(leaves, busy)
    shape = Shape(tasks, minimum_nodes=nodes, partition="main")
    found = place(cluster, shape, cluster.free[: cluster.count], Placement.TOPOLOGY)
    if found is None:
        assert not within(cluster, shape, ("root",))
        return
    prefixes = {"/".join(path.split("/")[:depth]) for path in PATHS for depth in (1, 2, 3)}
    deepest = max(prefix.count("/") for prefix in prefixes if within(cluster, shape, (prefix,)))
    paths = [cluster.switches[share.node].split("/") for share in found]
    common = 0
    while common < 3 and len({path[common] for path in paths}) == 1:
        common += 1
    assert common - 1 >= deepest


def test_without_a_topology_the_number_of_switches_does_not_matter() -> None:
    cluster = Cluster()
    for number in range(3):
        cluster.upsert_node(NodeFacts(f"n{number}", 4, 1000))
    shape = Shape(3, minimum_nodes=3, switches=1)
    assert place(cluster, shape, cluster.free[: cluster.count], Placement.BEST_FIT) is not None


@given(Leaves, Busy, Sizes, st.integers(1, 5), st.sampled_from(list(Placement)), st.booleans())
def test_fewest_nodes_are_found_whatever_the_order_of_preference(
    leaves: list[int], busy: list[int], size: tuple[int, int], most: int, placement: Placement, constrained: bool
) -> None:
    """照交换机、空闲、特性的次序挑，节点数又有上限：凑得出的总凑得出。"""
    cluster = cluster_of(leaves, busy)
    for name in cluster.names:
        row = cluster.index[name]
        cluster.upsert_node(NodeFacts(name, 4, 1000, switch=cluster.switches[row], features=frozenset({"x"})))
    least, tasks = min(size[1], most), max(size[0], size[1])
    constraints = "x" if constrained else None
    shape = Shape(tasks, minimum_nodes=least, maximum_nodes=most, partition="main", constraints=constraints)
    free = cluster.free[: cluster.count]
    # 取空闲最多的几个最容易凑出。
    largest = sorted((int(cpus) for cpus in free[:, 0] if cpus > 0), reverse=True)
    possible = len(largest) >= least and sum(largest[:most]) >= tasks
    found = place(cluster, shape, free, placement)
    assert (found is not None) == possible
    if found is not None:
        assert least <= len(found) <= most
        assert sum(share.tasks for share in found) == tasks


def test_gpus_of_the_job_spread_over_nodes_when_no_single_one_has_them_free() -> None:
    cluster = Cluster()
    for number in range(3):
        cluster.upsert_node(NodeFacts(f"n{number}", 8, 1000, {"gpu": 4}))
        cluster.allocate(RunningJob(number, 1e9, (NodeShare(number, 1, 0, (("gpu", 2 if number else 3),)),)))
    shape = Shape(gres_per_node=(("gpu", 4),), gres_per_job=(("gpu", 4),))
    found = place(cluster, shape, cluster.free[:3], Placement.BEST_FIT)
    assert found is not None
    assert [(cluster.names[share.node], dict(share.gres)) for share in found] == [
        ("n1", {"gpu": 2}),
        ("n2", {"gpu": 2}),
    ]
    # 有一个节点放得下就在一个节点上。
    cluster.release(2)
    (share,) = place(cluster, shape, cluster.free[:3], Placement.BEST_FIT) or ()
    assert (cluster.names[share.node], dict(share.gres)) == ("n2", {"gpu": 4})
