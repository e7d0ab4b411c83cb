#!/usr/bin/env python3
"""ConductorExecutor、submitit 与 executorlib：200 个空调用，从提交到全部结果，秒。

python benchmarks/executor.py [--calls 200] [--rounds 3]；都在同一个 scns up 上，后两者经 Slurm 的命令；没有装的跳过。
executorlib 钉死了 pyzmq、cloudpickle 的版本，与 constraints.txt 冲突：要比它，不带 -c 装在另一个虚拟环境里，
连同 pysqa。每个任务要起一个 Python，机器忙的时候多半是它；各种轮流做，比的是同一段时间里的。
"""

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from system import running_system

from scns_conductor.client import Client
from scns_conductor.client.executor import ConductorExecutor

Way = Callable[[], list[int]]


def same(value: int) -> int:
    """空的调用。"""
    return value


def conductor_ways(executor: ConductorExecutor, kind: str, calls: range) -> dict[str, Way]:
    """本系统的三种写法。"""
    return {
        f"ConductorExecutor（{kind}），逐个 submit": lambda: [
            future.result() for future in [executor.submit(same, n) for n in calls]
        ],
        f"ConductorExecutor（{kind}），map": lambda: list(executor.map(same, calls)),
        f"ConductorExecutor（{kind}），map，chunksize=10": lambda: list(executor.map(same, calls, chunksize=10)),
    }


def submitit_ways(scratch: Path, calls: range) -> dict[str, Way]:
    """submitit：逐个，与一个数组。"""
    if importlib.util.find_spec("submitit") is None:
        return {}
    import submitit

    def executor() -> Any:
        made = submitit.AutoExecutor(folder=tempfile.mkdtemp(dir=scratch), cluster="slurm")
        made.update_parameters(timeout_min=30, slurm_array_parallelism=1000, slurm_use_srun=False)
        return made

    def one_by_one() -> list[int]:
        made = executor()
        return [job.result() for job in [made.submit(same, n) for n in calls]]

    return {
        "submitit，逐个 submit": one_by_one,
        "submitit，map_array": lambda: [job.result() for job in executor().map_array(same, calls)],
    }


def executorlib_ways(scratch: Path, calls: range) -> dict[str, Way]:
    """executorlib：每个调用一个作业。"""
    if importlib.util.find_spec("executorlib") is None or importlib.util.find_spec("pysqa") is None:
        return {}
    from executorlib import SlurmClusterExecutor

    def one_by_one() -> list[int]:
        with SlurmClusterExecutor(cache_directory=tempfile.mkdtemp(dir=scratch), resource_dict={"cores": 1}) as made:
            return [future.result() for future in [made.submit(same, n) for n in calls]]

    return {"executorlib，逐个 submit": one_by_one}


@contextmanager
def slurm_commands(scratch: Path, system: Any) -> Iterator[None]:
    """PATH 里有 sbatch 等，环境里有系统的地址。"""
    bin_dir = scratch / "bin"
    command = [sys.executable, "-c", "from scns_conductor.cli.main import main; main()"]
    subprocess.run([*command, "slurm", "install", "--prefix", str(bin_dir)], check=True, stdout=subprocess.DEVNULL)
    saved, here = dict(os.environ), Path.cwd()
    os.environ |= {
        "PATH": f"{bin_dir}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "SCNS_URL": system.url,
        "SCNS_TOKEN": system.token,
    }
    os.chdir(scratch)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(saved)


def main() -> None:
    """各轮的中位数。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="只做名字里有这些字的")
    options = parser.parse_args()
    calls = range(options.calls)
    scratch = Path(tempfile.mkdtemp(prefix="scns-executor-"))
    try:
        with (
            running_system(scratch, "executor") as system,
            slurm_commands(scratch, system),
            Client(system.url, system.token) as client,
            ConductorExecutor(scratch / "calls", client=client) as folder,
            ConductorExecutor(client=client, resources={"current_working_directory": str(scratch)}) as api,
        ):
            folder.submit(same, 0).result()
            ways = {
                **conductor_ways(folder, "共用目录", calls),
                **conductor_ways(api, "只经 API", calls),
                **submitit_ways(scratch, calls),
                **executorlib_ways(scratch, calls),
            }
            found: dict[str, list[float]] = {name: [] for name in ways if options.only in name}
            for _ in range(options.rounds):
                for name, times in found.items():
                    began = time.perf_counter()
                    assert ways[name]() == list(calls)
                    times.append(time.perf_counter() - began)
                    print(f"  {name} {times[-1]:.2f}", file=sys.stderr, flush=True)
            for name, times in found.items():
                print(f"{name}：{statistics.median(times):.2f}（{'、'.join(f'{each:.2f}' for each in times)}）")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
