# ruff: noqa: N802 （RecordedNvml 的函数名是 NVML 的）
"""各家的工具写出来的样子（照真的输出），与一个作业怎样看见它的卡。"""

import types
from pathlib import Path
from typing import Any

import pytest

from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.cpu_topology import plain_units
from scns_conductor.worker.agent.gpus import shares
from scns_conductor.worker.agent.gpus.amd import parse_amd_metric, parse_amd_static, parse_rocm, parse_rocm_readings
from scns_conductor.worker.agent.gpus.ascend import parse_info
from scns_conductor.worker.agent.gpus.card import Accelerator, ProbeError, Reading, model_word
from scns_conductor.worker.agent.gpus.cards import Cards
from scns_conductor.worker.agent.gpus.detection import detect_all, read_all
from scns_conductor.worker.agent.gpus.nvidia import Nvidia, device_minor, parse_list, parse_readings
from scns_conductor.worker.agent.gpus.nvml import Nvml
from scns_conductor.worker.agent.gpus.probe import local_cpus
from scns_conductor.worker.agent.gpus.watch import compare

DATA = Path(__file__).parents[1] / "data" / "gpus"
MIG = (DATA / "nvidia-smi-L-mig.txt").read_text()
BUSES = (DATA / "nvidia-smi-bus.csv").read_text()
NO_TREE = Path("/nonexistent")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA GeForce RTX 4090", "rtx4090"), ("Tesla V100-PCIE-16GB", "v100"),
        ("NVIDIA", "gpu"), ("Titan V", "titanv"), ("AMD Instinct MI300X", "mi300x"), ("910B3", "910b3"),
        ("AMD Instinct MI250X/MI250", "mi250xmi250"), ("Ascend910", "910"), ("AMD Radeon RX 7900 XTX", "rx7900"),
    ],
)  # fmt: skip
def test_model_words(name: str, word: str) -> None:
    assert model_word(name) == word


def test_mig_instances_are_cards_of_their_own() -> None:
    cards = parse_list(MIG, BUSES, NO_TREE)
    assert [(card.index, card.model) for card in cards] == [
        (0, "a100_3g.20gb"), (1, "a100_1g.5gb"), (2, "a100_1g.5gb"), (3, "a100"),
    ]  # fmt: skip
    assert {card.parent for card in cards[:3]} == {"GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"}
    # 几个实例的设备是同一块卡的；看见哪一个由 UUID 说。
    assert {card.devices for card in cards[:3]} == {("c 195:0 rwm",)}
    assert all(card.visible == card.uuid for card in cards)


def test_whole_cards_keep_the_numbers_of_the_driver(tmp_path: Path) -> None:
    listed = "GPU 0: Tesla T4 (UUID: GPU-aa)\nGPU 2: NVIDIA L40S (UUID: GPU-bb)\n坏的一行\n"
    information = tmp_path / "gpus" / "0000:0f:00.0" / "information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: \t\t NVIDIA L40S\nDevice Minor: \t 5\n")
    cards = parse_list(listed, "GPU-aa, 00000000:07:00.0\nGPU-bb, 00000000:0F:00.0\n", tmp_path)
    assert [(card.index, card.model, card.devices, card.visible) for card in cards] == [
        (0, "t4", ("c 195:0 rwm",), ""), (2, "l40s", ("c 195:5 rwm",), ""),
    ]  # fmt: skip
    assert device_minor("", 3) == 3


def test_readings_of_nvidia() -> None:
    found = parse_readings((DATA / "nvidia-smi-usage.csv").read_text())
    assert found == {"GPU-3c8a7d1e-9f65-4b1f-8c0b-1d2f6f4c9e10": Reading(0.87, 30214, power_w=312.55)}
    assert parse_readings("GPU-x, 5, 10, [N/A]\n") == {"GPU-x": Reading(0.05, 10)}


def test_amd_smi() -> None:
    cards = parse_amd_static((DATA / "amd-smi-static.json").read_text())
    assert [(card.index, card.model, card.identity) for card in cards] == [
        (0, "mi300x", "amd:0"),
        (1, "mi300x", "amd:1"),
    ]
    assert parse_amd_metric((DATA / "amd-smi-metric.json").read_text()) == {
        "amd:0": Reading(0.64, 51204, 18734512.406, 415)
    }


def test_rocm_smi() -> None:
    text = (DATA / "rocm-smi.json").read_text()
    assert [(card.index, card.model) for card in parse_rocm(text)] == [(0, "mi250xmi250"), (1, "0x7551")]
    assert parse_rocm_readings(text) == {
        "amd:0": Reading(0.35, 8042, power_w=211.0),
        "amd:1": Reading(0.0, 69, power_w=12.134),
    }
    assert parse_rocm("no AMD GPU") == []
    with pytest.raises(ProbeError):
        parse_rocm('{"card0": ')


def test_npu_smi() -> None:
    found = parse_info((DATA / "npu-smi-910b.txt").read_text())
    assert [(card.index, card.model) for card, _ in found] == [(0, "910b3"), (3, "910b3")]
    assert [reading for _, reading in found] == [Reading(0.41, 60056, power_w=96.7), Reading(0.0, 4192, power_w=91.0)]
    # A3：一块卡两个芯片，设备号另有一列，功率只写在第一个上。
    found = parse_info((DATA / "npu-smi-910-a3.txt").read_text())
    assert [(card.index, card.model) for card, _ in found] == [(0, "910"), (1, "910")]
    assert [reading for _, reading in found] == [Reading(0.07, 3395, power_w=181.3), Reading(0.0, 3138)]


class RecordedNvml(types.ModuleType):
    """照一台 A100（切成 MIG）加一台 T4 录下的：函数名、单位与错误同 pynvml。"""

    class NVMLError(Exception):
        """pynvml 的错。"""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__("pynvml")
        self.open, self.broken = 0, broken

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return ("a100", "t4")[index]

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        names = {"a100": "NVIDIA A100-SXM4-40GB", "t4": "Tesla T4", "mig": "NVIDIA A100-SXM4-40GB MIG 1g.5gb"}
        return names[handle].encode()

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return {"a100": "GPU-a", "t4": "GPU-t", "mig": "MIG-1"}[handle]

    def nvmlDeviceGetMinorNumber(self, handle: str) -> int:
        return {"a100": 0, "t4": 4}[handle]

    def nvmlDeviceGetPciInfo(self, handle: str) -> Any:
        return types.SimpleNamespace(busId=b"00000000:07:00.0")

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if handle == "t4":
            raise self.NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        if index:
            raise self.NVMLError("Not Found")
        return "mig"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        if handle == "a100":
            raise self.NVMLError("Not Supported")
        return types.SimpleNamespace(gpu=97, memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return types.SimpleNamespace(used=3 * 1024**3, total=16 * 1024**3)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return 81_234_500

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        raise self.NVMLError("Not Supported")


def test_nvml() -> None:
    library = RecordedNvml()
    nvml = Nvml(library)
    assert [(card.model, card.uuid, card.parent, card.devices) for card in nvml.detect()] == [
        ("a100_1g.5gb", "MIG-1", "GPU-a", ("c 195:0 rwm",)), ("t4", "GPU-t", "", ("c 195:4 rwm",)),
    ]  # fmt: skip
    assert nvml.read() == {"GPU-t": Reading(0.97, 3072, 81234.5, None)}
    assert library.open == 0
    with pytest.raises(ProbeError, match="Driver Not Loaded"):
        Nvml(RecordedNvml(broken=True)).detect()


def program(folder: Path, text: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_tool_that_fails_is_not_an_empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert detect_all([Nvidia()]) == ()
    program(tmp_path, "echo 'Unable to determine the device handle' >&2; exit 15")
    with pytest.raises(ProbeError, match="15：Unable"):
        detect_all([Nvidia()])
    assert detect_all([Nvidia()], broken_is_none=True) == ()
    assert read_all([Nvidia()]) == {}
    program(tmp_path, "test \"$1\" = -L && echo 'GPU 0: Tesla T4 (UUID: GPU-aa)' || echo 'GPU-aa, 00000000:07:00.0'")
    (card,) = detect_all([Nvidia()])
    assert (card.model, card.uuid) == ("t4", "GPU-aa")


def test_cpus_near_a_card(tmp_path: Path) -> None:
    near = tmp_path / "0000:c1:00.0" / "local_cpulist"
    near.parent.mkdir()
    near.write_text("0-1,8\n")
    assert local_cpus("00000000:C1:00.0", tmp_path) == (0, 1, 8)
    assert local_cpus("0000:ff:00.0", tmp_path) == ()


CARDS = [Accelerator(index, "a100", "nvidia", (f"c 195:{index} rwm",), uuid=f"GPU-{index}") for index in range(4)]


def test_confined_jobs_count_from_their_own_first_card() -> None:
    confined, free = Cards(CARDS, lambda: True), Cards(CARDS)
    assert free.variables([2, 3], [2, 3]) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert confined.variables([2, 3], [2, 3]) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    # 一个任务只看得见作业的第二块。
    assert confined.variables([2, 3], [3]) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert confined.variables([], []) == {"CUDA_VISIBLE_DEVICES": ""}
    assert confined.denied([2, 3]) == ["c 195:0 rwm", "c 195:1 rwm"]


def test_instances_are_named_and_share_the_device() -> None:
    cards = Cards(parse_list(MIG, BUSES, NO_TREE), lambda: True)
    assert cards.variables([1], [1]) == {"CUDA_VISIBLE_DEVICES": "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"}
    assert cards.denied([1]) == ["c 195:1 rwm"]
    assert cards.denied([3]) == ["c 195:0 rwm"]


def test_cards_of_several_makers() -> None:
    mixed = Cards([CARDS[0], Accelerator(1, "910b3", "ascend", visible="0")])
    assert mixed.variables([0, 1], [0, 1]) == {"CUDA_VISIBLE_DEVICES": "0", "ASCEND_RT_VISIBLE_DEVICES": "0"}


def test_declared_cards_are_counted_like_detected_ones() -> None:
    """node_gpus 声明的两块是驱动的 2、5 号：没有圈住的写驱动的号，圈住的从自己的第一块数起。"""
    declared = [
        Accelerator(0, "a100", "nvidia", ("c 195:2 rwm",), visible="2"),
        Accelerator(1, "a100", "nvidia", ("c 195:5 rwm",), visible="5"),
    ]
    assert Cards(declared).variables([1], [1]) == {"CUDA_VISIBLE_DEVICES": "5"}
    assert Cards(declared, lambda: True).variables([1], [1]) == {"CUDA_VISIBLE_DEVICES": "0"}


def test_shared_cards() -> None:
    pool = CorePool(plain_units(range(8)), CARDS, {0: ("shard", 4), 1: ("shard", 4), 2: ("mps", 100)})
    first = pool.take((1, 0), 1, {"shard": 3}, unbound=False)
    second = pool.take((2, 0), 1, {"shard:a100": 1}, unbound=False)
    assert first is not None
    assert second is not None
    # 先用完一块。
    assert first.gres_ids == {"shard": [0, 0, 0]}
    assert second.gres_ids == {"shard:a100": [0]}
    whole = pool.take((3, 0), 1, {"gpu": 1}, unbound=False)
    assert whole is not None
    assert whole.accelerator_ids == [3]
    assert pool.take((4, 0), 1, {"gpu": 1}, unbound=False) is None
    assert pool.take((5, 0), 1, {"shard": 5}, unbound=False) is None
    assert pool.give_back((1, 0))
    # 一块放不下的分在两块上。
    spread = pool.take((6, 0), 1, {"shard": 6}, unbound=False)
    assert spread is not None
    assert spread.gres_ids == {"shard": [0, 0, 1, 1, 1, 1]}
    assert spread.accelerator_ids == [0, 1]
    part = pool.take((7, 0), 1, {"mps": 25}, unbound=False)
    assert part is not None
    assert shares.variables(part.gres_ids, pool.share_counts) == {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25"}
    assert shares.variables(spread.gres_ids, pool.share_counts) == {"SLURM_SHARDS_ON_NODE": "6"}
    counted = CorePool((), CARDS).take((1, 0), 0, {"mps": 50}, unbound=True)
    assert counted is not None
    assert counted.gres_ids == {}
    again = CorePool((), CARDS, {0: ("shard", 4)})
    assert again.restore((1, 0), None, {"shard": [0, 0, 0]}) == []
    assert again.take((2, 0), 0, {"shard": 2}, unbound=True) is None


def test_texts_of_shares() -> None:
    assert shares.parse_shares("0:shard:4, 2:mps:100") == {0: ("shard", 4), 2: ("mps", 100)}
    assert shares.parse_shares("") == {}
    for text in ("0:shard", "0:other:2", "0:shard:0", "0:shard:2,0:mps:3"):
        with pytest.raises(ValueError, match="合用的卡"):
            shares.parse_shares(text)


def test_what_changed() -> None:
    known = parse_list(MIG, BUSES, NO_TREE)
    assert compare(known, known) is None
    resliced = compare(known, parse_list(MIG.replace("MIG-cba663e8", "MIG-11111111"), BUSES, NO_TREE))
    assert resliced is not None
    assert not resliced.lost
    assert "MIG 重新划分过" in resliced.reason
    assert [card.index for card in resliced.gone] == [1]
    lost = compare(known, [card for card in known if card.index != 3])
    assert lost is not None
    assert lost.lost
    assert "GPU 不见了：3 号（a100，GPU-3c8a7d1e" in lost.reason
    # 整块的卡切成实例：还是那块卡。
    sliced = compare(parse_list(MIG.splitlines()[0], BUSES, NO_TREE), known[:3])
    assert sliced is not None
    assert not sliced.lost
    assert compare(known, []) is not None
