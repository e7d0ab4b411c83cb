"""GPU 的读数：各块的，与一个作业的卡合在一起；没有能耗计数的由功率积出来。"""

from collections.abc import Mapping

import pytest

from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.gpu_meter import GpuMeter
from scns_conductor.worker.agent.gpus.card import Accelerator, Reading
from scns_conductor.worker.agent.gpus.cards import Cards

CARDS = tuple(Accelerator(index, "h200", "nvidia", uuid=f"GPU-{index}") for index in range(3))


class Card:
    """一步一步地读：readings 是下一次读到的，now 是那时的钟。"""

    def __init__(self) -> None:
        self.readings: Mapping[str, Reading] = {}
        self.now = 0.0


@pytest.fixture
def card() -> Card:
    return Card()


@pytest.fixture
def meter(card: Card) -> GpuMeter:
    pool = CorePool((), CARDS)
    pool.take((1, 0), 1, {"gpu": 2}, unbound=True)
    return GpuMeter(Cards(CARDS), pool, lambda: card.readings, lambda: card.now)


def test_a_job_is_told_its_own_cards(card: Card, meter: GpuMeter) -> None:
    card.readings = {
        "GPU-0": Reading(0.9, 1000, 50.0),
        "GPU-1": Reading(0.5, 500, 7.0),
        "GPU-2": Reading(0.1, 100, 1.0),
    }
    # 头一次还不知道；问着的那个线程答了就知道。
    assert meter.of((1, 0)) is None
    meter.ask().join()
    assert meter.of((1, 0)) == (pytest.approx(1.4), 1500, 57.0)
    assert meter.of((2, 0)) is None
    card.readings = {"GPU-0": Reading(0.9, 1000)}
    meter.ask().join()
    meter.ask().join()
    assert meter.of((1, 0)) is None


def test_energy_is_summed_up_from_power(card: Card, meter: GpuMeter) -> None:
    card.readings = {"GPU-0": Reading(1, 1, power_w=300.0), "GPU-1": Reading(1, 1, energy_j=1000.0)}
    meter.ask().join()
    card.now = 10.0
    meter.ask().join()
    assert meter.of((1, 0)) == (2, 2, 4000.0)
    card.readings = {"GPU-0": Reading(1, 1), "GPU-1": Reading(1, 1)}
    meter.ask().join()
    meter.ask().join()
    found = meter.of((1, 0))
    assert found is not None
    assert found[2] is None


def test_without_real_cards_nothing_is_asked() -> None:
    cards = [Accelerator(0, "gpu", "none"), Accelerator(1, "gpu", "none")]
    pool = CorePool((), cards)
    pool.take((1, 0), 1, {"gpu": 1}, unbound=True)

    def refuse() -> Mapping[str, Reading]:
        raise AssertionError("不该问")

    assert GpuMeter(Cards(cards), pool, refuse).of((1, 0)) is None
