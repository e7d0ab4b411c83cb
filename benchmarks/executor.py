#!/usr/bin/env python3
"""ConductorExecutor、submitit 与 executorlib：200 个空调用，从提交到全部结果，秒。

python benchmarks/executor.py [--calls 200] [--rounds 3]；每个任务要起一个 Python，机器忙的时候多半是它。
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from system import running_system

from scns_conductor.client import Client
from scns_conductor.client.executor import ConductorExecutor


def same(value: int) -> int:
    """空的调用。"""
    return value


def main() -> None:
    """各轮的中位数。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    calls = range(options.calls)
    scratch = Path(tempfile.mkdtemp(prefix="scns-executor-"))
    try:
        with (
            running_system(scratch, "executor") as system,
            ConductorExecutor(scratch / "calls", client=Client(system.url, system.token)) as executor,
        ):
            executor.submit(same, 0).result()
            ways: dict[str, Callable[[], list[int]]] = {
                "逐个 submit": lambda: [future.result() for future in [executor.submit(same, n) for n in calls]],
                "map": lambda: list(executor.map(same, calls)),
                "map，chunksize=10": lambda: list(executor.map(same, calls, chunksize=10)),
            }
            for name, way in ways.items():
                found = []
                for _ in range(options.rounds):
                    began = time.perf_counter()
                    assert way() == list(calls)
                    found.append(time.perf_counter() - began)
                print(f"{name}：{statistics.median(found):.2f}（{'、'.join(f'{each:.2f}' for each in found)}）")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
