"""CPU 拓扑：照真机的 /sys 目录树读，照声明的读，从里面挑核。"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.errors import SettingsError
from scns_conductor.core.memory_binding import memory_bind
from scns_conductor.core.settings import Settings
from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.core_choice import arranged, choose
from scns_conductor.worker.agent.cpu_topology import (
    CpuLayout,
    CpuTopology,
    declared_topology,
    parse_cpu_list,
    read_topology,
)
from scns_conductor.worker.agent.devices import detect
from scns_conductor.worker.agent.gpus.card import Accelerator


def _tree(
    root: Path, packages: dict[str, str], siblings: Callable[[int], Iterable[int]], nodes: dict[int, str]
) -> tuple[Path, list[int]]:
    """packages 是 physical_package_id -> 它的 CPU；nodes 是 NUMA 节点 -> cpulist，都是真机上的写法。"""
    cpus = []
    for package, listed in packages.items():
        for cpu in parse_cpu_list(listed):
            directory = root / "cpu" / f"cpu{cpu}" / "topology"
            directory.mkdir(parents=True)
            (directory / "physical_package_id").write_text(f"{package}\n")
            (directory / "thread_siblings_list").write_text(",".join(map(str, siblings(cpu))) + "\n")
            cpus.append(cpu)
    for node, listed in nodes.items():
        directory = root / "node" / f"node{node}"
        directory.mkdir(parents=True)
        (directory / "cpulist").write_text(listed + "\n")
    return root, sorted(cpus)


@pytest.fixture
def epyc(tmp_path: Path) -> CpuTopology:
    """两路 EPYC 7763，NPS4，超线程开着：线程 N 与 N+128 是一个核。"""
    nodes = {index: f"{16 * index}-{16 * index + 15},{128 + 16 * index}-{143 + 16 * index}" for index in range(8)}
    tree, cpus = _tree(
        tmp_path / "epyc",
        {"0": "0-63,128-191", "1": "64-127,192-255"},
        lambda cpu: (cpu % 128, cpu % 128 + 128),
        nodes,
    )
    return read_topology(cpus, tree)


@pytest.fixture
def kunpeng(tmp_path: Path) -> CpuTopology:
    """两路鲲鹏 920（7260）：没有超线程，四个 NUMA 节点，插槽的号是 36 与 3602。"""
    tree, cpus = _tree(
        tmp_path / "kunpeng",
        {"36": "0-63", "3602": "64-127"},
        lambda cpu: (cpu,),
        {0: "0-31", 1: "32-63", 2: "64-95", 3: "96-127"},
    )
    return read_topology(cpus, tree)


def test_layouts_of_real_trees(epyc: CpuTopology, kunpeng: CpuTopology) -> None:
    assert epyc.layout == CpuLayout(2, 64, 2)
    assert kunpeng.layout == CpuLayout(2, 64, 1)
    assert {unit.numa for unit in kunpeng.threads if unit.socket == 1} == {2, 3}
    assert len(epyc.cores) == 128
    assert epyc.cores[0].ids == (0, 128)


def test_only_the_usable_cpus_count(tmp_path: Path) -> None:
    tree, _ = _tree(tmp_path, {"0": "0-7", "1": "8-15"}, lambda cpu: (cpu,), {0: "0-7", 1: "8-15"})
    assert read_topology([8, 9, 10], tree).layout == CpuLayout(1, 3, 1)


def test_a_tree_without_topology_is_one_socket(tmp_path: Path) -> None:
    assert read_topology([0, 1, 5], tmp_path).layout == CpuLayout(1, 3, 1)


def test_arm_without_package_ids(tmp_path: Path) -> None:
    tree, cpus = _tree(tmp_path, {"-1": "0-3"}, lambda cpu: (cpu,), {0: "0-3"})
    assert read_topology(cpus, tree).layout == CpuLayout(1, 4, 1)


def test_declared() -> None:
    found = declared_topology("2:8:2:4")
    assert found.layout == CpuLayout(2, 8, 2)
    assert [unit.numa for unit in found.cores] == [node for node in range(4) for _ in range(4)]
    assert found.cores[8].socket == 1


@pytest.mark.parametrize("text", ["", "2", "0:4", "2:3:1:4", "a:b", "2:2:2:2:2", "9999:9999:9"])
def test_bad_declarations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CPU 拓扑"):
        declared_topology(text)


def test_a_job_stays_in_one_numa_node(epyc: CpuTopology, kunpeng: CpuTopology) -> None:
    for topology in (epyc, kunpeng):
        chosen = choose(topology.threads, 8)
        assert len({unit.numa for unit in chosen}) == 1
    # 两个线程的核：整个的核给同一个作业。
    assert len({unit.core for unit in choose(epyc.threads, 8)}) == 4


def test_the_fullest_node_that_still_fits_is_used_first(kunpeng: CpuTopology) -> None:
    free = [unit for unit in kunpeng.threads if not (unit.numa == 2 and unit.ids[0] < 80)]
    assert {unit.numa for unit in choose(free, 16)} == {2}
    assert {unit.numa for unit in choose(free, 17)} <= {0, 1, 3}


def test_more_than_a_node_stays_in_one_socket(kunpeng: CpuTopology) -> None:
    assert len({unit.socket for unit in choose(kunpeng.threads, 40)}) == 1
    assert len(choose(kunpeng.threads, 128)) == 128
    assert choose(kunpeng.threads, 129) == []


def test_cores_near_the_cards(kunpeng: CpuTopology) -> None:
    cards = [
        Accelerator(index, "910b", "ascend", local_cpus=tuple(range(32 * index, 32 * index + 32))) for index in range(4)
    ]
    pool = CorePool(kunpeng.threads, cards)
    first = pool.take((1, 0), 4, {"gpu": 1}, unbound=False)
    assert first is not None
    assert first.cpu_ids is not None
    pool.take((2, 0), 4, {"gpu": 1}, unbound=False)
    third = pool.take((3, 0), 4, {"gpu": 1}, unbound=False)
    assert third is not None
    assert third.cpu_ids is not None
    assert {cpu // 32 for cpu in third.cpu_ids} == set(third.accelerator_ids)
    assert pool.near([0, 1, 2, 3], third.cpu_ids) == third.accelerator_ids


def test_an_odd_thread_uses_up_a_half_used_core() -> None:
    topology = declared_topology("1:4:2")
    pool = CorePool(topology.threads, ())
    assert pool.take((1, 0), 3, {}, unbound=False).cpu_ids == (0, 1, 2)  # type: ignore[union-attr]
    assert pool.take((2, 0), 3, {}, unbound=False).cpu_ids == (3, 4, 5)  # type: ignore[union-attr]


def test_whole_cores_are_never_shared() -> None:
    pool = CorePool(declared_topology("1:2:2", [0, 1, 2, 3]).cores, ())
    first, second = (pool.take((job, 0), 1, {}, unbound=False) for job in (1, 2))
    assert (first.cpu_ids, second.cpu_ids) == ((0, 1), (2, 3))  # type: ignore[union-attr]
    assert pool.take((3, 0), 1, {}, unbound=False) is None
    assert pool.give_back((1, 0))
    assert pool.restore((1, 1), [0, 1], {}) == []
    assert pool.restore((4, 0), [1], {}) == [(1, 1)]


@given(st.data())
def test_what_is_chosen_is_free_and_as_many_as_asked(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(["1:4", "2:4:2", "2:6:2:4", "1:3:4"]))
    units = declared_topology(shape).threads
    free = data.draw(st.lists(st.sampled_from(units), unique=True))
    count = data.draw(st.integers(1, len(units)))
    near = data.draw(st.sets(st.integers(0, 3)))
    chosen = choose(free, count, near)
    assert len(chosen) == (count if count <= len(free) else 0)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(free)


def test_orders_of_tasks() -> None:
    units = declared_topology("2:2:2").threads
    assert arranged(units) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert arranged(units, "cyclic", None, 2) == [0, 1, 4, 5, 2, 3, 6, 7]
    assert arranged(units, "fcyclic") == [0, 4, 1, 5, 2, 6, 3, 7]
    assert arranged(units, "block", 1) == [0, 2, 4, 6]


def test_memory_binding() -> None:
    assert memory_bind(None).nodes(0, [0]) is None
    assert memory_bind("verbose,local").nodes(3, [1, 2]) == [1, 2]
    assert memory_bind("map_mem:0,0x2").nodes(1, []) == [2]
    assert memory_bind("prefer,mask_mem:0x3,4").nodes(0, []) == [0, 1]
    assert memory_bind("rank").nodes(2, [0]) == [2]
    for text in ("nope", "map_mem:", "map_mem:x", "map_mem:99999", "mask_mem:zz"):
        with pytest.raises(ValueError, match="mem_bind"):
            memory_bind(text)


@pytest.mark.parametrize(
    "wrong",
    [{"node_cpu_topology": "2:x"}, {"node_cpu_topology": "1:2", "node_cpus": 3}, {"node_gpu_shares": "0:half:2"}],
)
def test_wrong_settings_are_said_and_do_not_crash(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        detect(Settings.model_validate(wrong))


def test_a_shared_card_that_is_not_there_is_left_out() -> None:
    found = detect(Settings(node_gpus=1, node_gpu_shares="0:shard:4,7:mps:100", node_cpu_unit="core"))
    assert found.gres == {"shard": 4}
    assert found.shares == {0: ("shard", 4)}
