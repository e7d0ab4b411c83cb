"""按核的布局放置：插槽、核、线程的要求，不用的线程也占着，--core-spec，--prefer。"""

import pytest

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.feasibility import Kind, impossible, requirement
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.shape import Shape


@pytest.fixture
def cluster() -> Cluster:
    """arm：一个插槽 16 个核，没有超线程；smt：两个插槽各 4 个核 8 线程；cores：同 smt 而 CPU 按核算。"""
    cluster = Cluster()
    cluster.upsert_node(NodeFacts("arm", 16, 1000, features=frozenset({"arm"}), layout=(1, 16, 1)))
    cluster.upsert_node(NodeFacts("smt", 16, 1000, features=frozenset({"x86"}), layout=(2, 4, 2), weight=2))
    cluster.upsert_node(NodeFacts("cores", 8, 1000, features=frozenset({"x86"}), layout=(2, 4, 2), weight=3))
    return cluster


def placed(cluster: Cluster, shape: Shape) -> list[tuple[str, int]] | None:
    """（节点, CPU 数）。"""
    shares = place(cluster, shape, cluster.free[: cluster.count], Placement.WEIGHT)
    return None if shares is None else [(cluster.names[share.node], share.cpus) for share in shares]


def test_nodes_without_the_layout_are_not_used(cluster: Cluster) -> None:
    assert placed(cluster, Shape()) == [("arm", 1)]
    assert placed(cluster, Shape(sockets_per_node=2)) == [("smt", 1)]
    assert placed(cluster, Shape(cores_per_socket=8)) == [("arm", 1)]
    assert placed(cluster, Shape(sockets_per_node=2, cores_per_socket=8)) is None
    assert "没有节点有 2 个插槽" in str(impossible(cluster, Shape(sockets_per_node=2, cores_per_socket=8)))


def test_one_thread_per_core_takes_the_whole_core(cluster: Cluster) -> None:
    only_smt = Shape(tasks=8, threads_per_core=1, required_nodes=("smt",), maximum_nodes=1)
    assert placed(cluster, only_smt) == [("smt", 16)]
    assert placed(cluster, Shape(tasks=9, threads_per_core=1, required_nodes=("smt",), maximum_nodes=1)) is None
    assert placed(cluster, Shape(tasks=8, threads_per_core=1)) == [("arm", 8)]
    # CPU 按核算的：一个核就是一个 CPU。
    assert placed(cluster, Shape(tasks=8, threads_per_core=1, required_nodes=("cores",), maximum_nodes=1)) == [
        ("cores", 8)
    ]
    assert placed(cluster, Shape(cpus_per_task=3, threads_per_core=1, excluded_nodes=("arm",))) == [("smt", 6)]


def test_two_threads_per_core_need_them(cluster: Cluster) -> None:
    assert placed(cluster, Shape(cpus_per_task=4, threads_per_core=2)) == [("smt", 4)]


def test_tasks_per_core_and_socket(cluster: Cluster) -> None:
    smt = {"required_nodes": ("smt",), "maximum_nodes": 1}
    assert placed(cluster, Shape(tasks=8, tasks_per_core=1, **smt)) == [("smt", 16)]
    assert placed(cluster, Shape(tasks=9, tasks_per_core=1, **smt)) is None
    assert placed(cluster, Shape(tasks=9, tasks_per_core=2, **smt)) == [("smt", 9)]
    assert placed(cluster, Shape(tasks=2, tasks_per_socket=1)) == [("smt", 2)]
    assert placed(cluster, Shape(tasks=3, tasks_per_socket=1, **smt)) is None


def test_the_fast_way_stays_where_no_core_has_two_threads() -> None:
    cluster = Cluster()
    cluster.upsert_node(NodeFacts("n", 8, 1000, layout=(1, 8, 1)))
    assert requirement(cluster, Shape(threads_per_core=1))[1] is Kind.PLAIN
    cluster.upsert_node(NodeFacts("m", 8, 1000, layout=(1, 4, 2)))
    assert requirement(cluster, Shape(threads_per_core=1))[1] is Kind.GENERAL
    assert requirement(cluster, Shape())[1] is Kind.PLAIN


def test_specialized_cores_are_kept_from_the_job(cluster: Cluster) -> None:
    spared = {"exclusive": True, "spared_cores": 1, "required_nodes": ("smt",), "maximum_nodes": 1}
    assert placed(cluster, Shape(tasks=14, **spared)) == [("smt", 16)]
    assert placed(cluster, Shape(tasks=15, **spared)) is None


def test_preferred_features_are_tried_first(cluster: Cluster) -> None:
    shape = Shape(prefer="x86")
    assert placed(cluster, shape) == [("smt", 1)]
    for number, (name, cpus) in enumerate((("smt", 16), ("cores", 8))):
        cluster.allocate(RunningJob(number, 1e9, (NodeShare(cluster.index[name], cpus, 0),)))
    assert placed(cluster, shape) == [("arm", 1)]
    assert placed(cluster, Shape(prefer="x86", constraints="gpu")) is None
    # prefer 胜过 constraints（sbatch(1)）。
    cluster.release(0)
    assert placed(cluster, Shape(prefer="x86", constraints="arm")) == [("smt", 1)]
    assert placed(cluster, Shape(prefer="nothing", constraints="arm")) == [("arm", 1)]
