"""每个节点都有一份的进程要小：代理不装载 pydantic 与模型，牧守进程只有标准库；调度器不装载模型，上任得快。"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem, start_system

HEAVY = ("pydantic", "pydantic_settings", "sqlmodel", "numpy", "fastapi", "click", "scns_conductor.core.models")


def _mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def _imported(module: str) -> set[str]:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_agent_brings_no_models() -> None:
    assert not set(HEAVY) & _imported("scns_conductor.worker.agent.process")


# 代理要的别人的包；多一个，每个节点都多付几个 MiB（docs/database.md「代理的内存」）。
PACKAGES = {"psycopg", "psycopg_binary", "sqlalchemy", "greenlet", "redis", "hiredis", "rq", "structlog"}
# 上面的包自己带来的，装了才有。
INCIDENTAL = {"_distutils_hack", "cryptography", "setproctitle", "typing_extensions", "croniter", "pytz"}
# redis 见到 OpenTelemetry 就载入它：装不装由别的 extra 定。
UNASKED = ("opentelemetry",)


def test_importing_the_agent_brings_no_other_packages() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1:]))\n"
        "import scns_conductor.worker.agent.process\n"
        "files = {name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()}\n"
        "print(*{name.partition('.')[0] for name, file in files.items() if 'site-packages' in file})"
    )
    done = subprocess.run([sys.executable, "-c", program, *UNASKED], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - INCIDENTAL <= PACKAGES


def test_importing_the_scheduler_brings_no_models() -> None:
    assert not {"sqlmodel", "fastapi", "scns_conductor.core.models"} & _imported(
        "scns_conductor.worker.scheduler.process"
    )


def test_starting_the_system_brings_no_alembic() -> None:
    assert not {"alembic", "sqlmodel", "scns_conductor.core.models"} & _imported("scns_conductor.local.up")


@pytest.fixture
def system(scratch: Path) -> Iterator[RunningSystem]:
    """从头启动的：fork 出来的映射着别的服务的模块。"""
    with start_system(scratch / "footprint", "--nodes", "1", "--cpus", "4", from_start=True) as started:
        yield started


def test_an_agent_that_has_worked_has_no_models_either(system: RunningSystem, tmp_path: Path) -> None:
    """作业、数组的任务、作业步都跑过之后：pydantic 的扩展模块没有映射进来（API 里有，所以看得出）。"""
    slurm = Commands.beside(system, tmp_path)
    stepped = slurm.submit("-o", "out", text="#!/bin/bash\nsrun true\n")
    array = system.submit("#!/bin/bash\ntrue\n", array="0-3")
    system.wait_state(stepped, "COMPLETED")
    for task in range(4):
        system.wait_state(f"{array}_{task}", "COMPLETED")
    agents = system.services("worker.agent.process")
    assert agents
    assert not [pid for pid in agents if "pydantic_core" in _mapped(pid)]
    assert all("pydantic_core" in _mapped(pid) for pid in system.services("api"))
