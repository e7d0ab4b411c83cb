"""兼容测试的环境：一套真系统，以及放着 sbatch、squeue 等链接的目录；客户端只看得见它们。"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_commands import Slurm

from running_system import RunningSystem, start_system
from scns_conductor.slurm.install import install


@pytest.fixture(scope="session")
def slurm_system(scratch: Path) -> Iterator[tuple[RunningSystem, Path]]:
    """整个会话共用的系统与命令目录。"""
    folder = scratch / "slurm-bin"
    install(folder, sys.executable)
    with start_system(scratch / "compat", "--nodes", "1", "--cpus", "8", "--memory", "16G") as system:
        yield system, folder


def own_path() -> list[str]:
    """本来的 PYTHONPATH：从别的工作目录跑的测试，命令也要是那里的。"""
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


@pytest.fixture
def slurm(slurm_system: tuple[RunningSystem, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """命令在 PATH 里、地址在环境里：客户端库从本进程的环境找到它们。"""
    found = Slurm(*slurm_system, tmp_path)
    for name in ("PATH", "SCNS_URL", "SCNS_TOKEN", "SCNS_DATA_DIR"):
        monkeypatch.setenv(name, found.environment[name])
    # 客户端把函数按名字送过去：作业里也要找得到 payloads。
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *own_path()]))
    monkeypatch.chdir(tmp_path)
    return found
