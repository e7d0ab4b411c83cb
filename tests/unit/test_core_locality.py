"""--gres-flags：核挨着卡（缺省尽量，enforce-binding 只用，disable-binding 不管）。"""

import pytest

from scns_conductor.worker.agent.core_binding import Binding, CorePool, Locality
from scns_conductor.worker.agent.cpu_topology import CpuUnit
from scns_conductor.worker.agent.gpus.card import Accelerator
from scns_conductor.worker.agent.launch_orders import core_locality

# 两个 NUMA 节点各四个核；卡 0 挨着前四个，卡 1 挨着后四个。
UNITS = [CpuUnit((core,), core, core // 4, core // 4) for core in range(8)]
CARDS = [Accelerator(index, "a100", "none", local_cpus=tuple(range(4 * index, 4 * index + 4))) for index in range(2)]


def taken(locality: Locality, *, busy: int, cpus: int, uniform: bool = False) -> Binding | None:
    """前 busy 个核有人用着，卡 1 也有人用着：要卡 0 与 cpus 个核。"""
    units = [CpuUnit((core,), core, 0, 0) for core in range(8)] if uniform else UNITS
    pool = CorePool(units, CARDS)
    pool.restore((1, 0), range(busy), {"gpu": [1]})
    return pool.take((2, 0), cpus, {"gpu": 1}, unbound=True, locality=locality)


@pytest.mark.parametrize("uniform", [False, True])
def test_enforced_cores_are_those_of_the_card(uniform: bool) -> None:
    assert taken("only", busy=0, cpus=2, uniform=uniform) == Binding((0, 1), {"gpu": [0]})
    # 不够的有几个用几个；一个也没有就等。
    assert taken("only", busy=3, cpus=2, uniform=uniform) == Binding((3,), {"gpu": [0]})
    assert taken("only", busy=4, cpus=2, uniform=uniform) is None


def test_preferred_cores_spill_over_and_disabled_ones_ignore_the_card() -> None:
    assert taken("prefer", busy=0, cpus=2) == Binding((0, 1), {"gpu": [0]})
    assert taken("prefer", busy=4, cpus=2) == Binding((4, 5), {"gpu": [0]})
    # 不管卡在哪里：放得下的里空闲少的那一半。
    pool = CorePool(UNITS, CARDS)
    pool.restore((1, 0), [4], {"gpu": [1]})
    assert pool.take((2, 0), 2, {"gpu": 1}, unbound=True, locality="off") == Binding((5, 6), {"gpu": [0]})


def test_the_words_of_gres_flags() -> None:
    words = {"enforce-binding": "only", "disable-binding": "off", "one-task-per-sharing": "prefer", "": "prefer"}
    assert {word: core_locality({"SLURM_GRES_FLAGS": word}) for word in words} == words
