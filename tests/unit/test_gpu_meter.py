"""GPU 的读数：真的 nvidia-smi 写出来的样子，与一个作业的卡合在一起。"""

import shutil
import subprocess
from pathlib import Path

import pytest

from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.devices import Accelerator, NodeInventory
from scns_conductor.worker.agent.gpu_meter import QUERY, GpuMeter, parse_readings

CARDS = tuple(Accelerator(index, "h200", "nvidia") for index in range(3))


def inventory(cards: tuple[Accelerator, ...]) -> NodeInventory:
    return NodeInventory(8, 1024, 1024, {}, cards, (), "boot", 0.0, "x86_64", "Linux")


def test_lines_of_nvidia_smi() -> None:
    text = "0, 97, 40536\n1, 0, 4\n2, [N/A], 0\n3, 12, [N/A]\nUnable to determine the device handle\n"
    assert parse_readings(text) == {0: (0.97, 40536), 1: (0.0, 4)}


def test_a_job_is_told_its_own_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0, 90, 1000\\n1, 50, 500\\n2, 10, 100\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    pool = CorePool((), CARDS)
    pool.take((1, 0), 1, {"gpu": 2}, unbound=True)
    meter = GpuMeter(inventory(CARDS), pool)
    # 头一次还不知道；问着的那个线程答了就知道。
    assert meter.of((1, 0)) is None
    assert meter._asking is not None
    meter._asking.join()
    assert meter.of((1, 0)) == (pytest.approx(1.4), 1500)
    assert meter.of((2, 0)) is None
    program.write_text("#!/bin/sh\nexit 9\n")
    meter._asking.join()
    meter.of((1, 0))
    meter._asking.join()
    assert meter.of((1, 0)) is None


def test_without_cards_nothing_is_asked() -> None:
    pool = CorePool((), CARDS)
    pool.take((1, 0), 1, {"gpu": 1}, unbound=True)
    declared = GpuMeter(inventory(tuple(Accelerator(0, "gpu", "none") for _ in range(2))), pool)
    assert declared.of((1, 0)) is None
    assert declared._asking is None


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="没有 NVIDIA 的卡")
def test_the_real_cards_answer() -> None:
    text = subprocess.run(["nvidia-smi", *QUERY], capture_output=True, text=True, check=True, timeout=60).stdout
    found = parse_readings(text)
    assert found.keys() == set(range(len(text.splitlines())))
    assert all(0 <= busy <= 1 and memory >= 0 for busy, memory in found.values())
