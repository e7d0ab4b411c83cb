#!/usr/bin/env python3
"""make bench：本系统（内嵌 PostgreSQL，fsync 开着）与同一台机器的极限并排量，轮流跑，给出中位数与范围。

(a) 一个数组的空作业；(b) 分别提交的空作业，8 个客户端；(c) 提交到脚本第一行的延迟；(d) 单个与批量提交的速率。
极限是 xargs -P4 bash noop.sh；对手见 peers.py。HyperQueue 装了（pip install -e ".[bench]"）才比，没装就说没装；
Slurm 还没有接进来。
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import NOOP, SLOTS, HyperQueue, rq_rate, xargs_rate


class System:
    """一个专为这次起的 scns up。"""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        ready = scratch / "ready.json"
        self.log = open(scratch / "up.log", "wb")  # noqa: SIM115 - 与系统同寿
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scns_conductor.local", "up", "--data-dir", str(scratch / "data"), "--port", "0",
             "--ready-file", str(ready), "--cpus", str(SLOTS), "--memory", "64G"],
            stdout=self.log, stderr=self.log,
        )  # fmt: skip
        while not ready.exists():
            if self.process.poll() is not None:
                raise SystemExit(f"系统没有起来，见 {scratch / 'up.log'}")
            time.sleep(0.05)
        found = json.loads(ready.read_text())
        host, _, port = found["url"].removeprefix("http://").partition(":")
        self.host, self.port, self.token = host, int(port), found["token"]
        self.job = {"current_working_directory": str(scratch), "standard_output": "/dev/null"}
        self.main = self.client()

    def client(self) -> Callable[..., Any]:
        """一条长连接；返回 call(方法, 路径, 正文)。"""
        connection = http.client.HTTPConnection(self.host, self.port)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

        def call(method: str, path: str, body: Any = None) -> Any:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = json.loads(answer.read())
            if answer.status >= 400:
                raise SystemExit(f"{method} {path}：{data}")
            return data

        return call

    def completed(self) -> int:
        """跑完了几个。"""
        return int(self.main("GET", "/dashboard")["jobs"]["by_state"]["COMPLETED"])

    def wait_completed(self, count: int) -> None:
        """等到一共跑完 count 个；失败的不算，所以有失败就会到时。"""
        deadline = time.monotonic() + 300
        while self.completed() < count:
            if time.monotonic() > deadline:
                raise SystemExit("五分钟没有跑完")
            # 问得太密，问本身就占去一成的 CPU；50 毫秒的误差只会说得慢些。
            time.sleep(0.05)

    def stop(self) -> None:
        """停下。"""
        self.process.terminate()
        self.process.wait(120)
        self.log.close()


def array_rate(system: System, jobs: int) -> float:
    """(a) 每秒跑完几个数组任务。"""
    before, began = system.completed(), time.perf_counter()
    system.main("POST", "/jobs/submit", {"job": {**system.job, "array": f"0-{jobs - 1}"}, "script": NOOP})
    system.wait_completed(before + jobs)
    return jobs / (time.perf_counter() - began)


def separate_rate(system: System, jobs: int, clients: int = 8) -> float:
    """(b) 每秒跑完几个分别提交的作业，各有自己的脚本与输出文件。"""

    def submit(first: int) -> None:
        call = system.client()
        for index in range(first, jobs, clients):
            job = {**system.job, "name": f"s{index}", "standard_output": f"out-{index}"}
            call("POST", "/jobs/submit", {"job": job, "script": f"{NOOP}# {index}\n"})

    before, began = system.completed(), time.perf_counter()
    threads = [threading.Thread(target=submit, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    system.wait_completed(before + jobs)
    return jobs / (time.perf_counter() - began)


def latencies_ms(system: System, times: int) -> list[float]:
    """(c) 提交到脚本第一行，毫秒。"""
    found = []
    for index in range(times):
        mark = system.scratch / f"mark-{index}"
        began = time.perf_counter()
        system.main("POST", "/jobs/submit", {"job": system.job, "script": f"{NOOP}: > {mark}\n"})
        while not mark.exists():
            time.sleep(0.0003)
        found.append((time.perf_counter() - began) * 1000)
        mark.unlink()
        time.sleep(0.02)
    return sorted(found)


def submit_rates(system: System, single: int, batch: int) -> tuple[float, float]:
    """(d) 每秒提交几个：单个（8 个客户端、长连接）与批量；作业都保留着，不跑。"""
    body = {"job": {**system.job, "hold": True}, "script": NOOP}

    def submit() -> None:
        call = system.client()
        for _ in range(single // 8):
            call("POST", "/jobs/submit", body)

    began = time.perf_counter()
    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    singles = single / (time.perf_counter() - began)
    began = time.perf_counter()
    system.main("POST", "/jobs/submit/batch", {"jobs": [body] * batch})
    return singles, batch / (time.perf_counter() - began)


def spread(values: list[float]) -> str:
    """中位数（最小–最大）。"""
    return f"{statistics.median(values):.0f}（{min(values):.0f}–{max(values):.0f}）"


def main() -> None:
    """跑一遍并打印 Markdown；--json 另写一份。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="scns-bench-"))
    system = System(scratch)
    keys = ("xargs", "hyperqueue", "hyperqueue_separate", "rq", "array", "separate")
    rates: dict[str, list[float]] = {key: [] for key in keys}
    peer = HyperQueue(scratch) if HyperQueue.found() else None
    peer_latency: list[float] = []
    try:
        array_rate(system, 200)
        for _ in range(options.rounds):
            rates["xargs"].append(xargs_rate(scratch, options.jobs))
            rates["array"].append(array_rate(system, options.jobs))
            if peer:
                rates["hyperqueue"].append(peer.task_rate(options.jobs))
            rates["separate"].append(separate_rate(system, options.jobs))
            if peer:
                rates["hyperqueue_separate"].append(peer.separate_rate(options.jobs))
            rates["rq"].append(rq_rate(scratch, options.jobs))
        if peer:
            peer_latency = peer.latencies_ms(50)
        latency = latencies_ms(system, 200)
        single, batch = submit_rates(system, 2000, 10_000)
    finally:
        if peer:
            peer.stop()
        system.stop()
        shutil.rmtree(scratch)
    limit = statistics.median(rates["xargs"])
    print(
        f"{platform.platform()}，{os.cpu_count()} 核，Python {platform.python_version()}，{time.strftime('%Y-%m-%d')}\n"
    )
    print("| 场景 | 每秒，中位数（范围） | 与极限之比 |\n|---|---|---|")
    for name, key in (
        ("极限：xargs -P4 bash noop.sh", "xargs"),
        ("HyperQueue，一个作业的任务（不落盘）", "hyperqueue"),
        ("HyperQueue，分别提交，1 个客户端（不落盘）", "hyperqueue_separate"),
        ("纯 RQ，一个作业一条消息（不落盘）", "rq"),
        (f"(a) 数组，{options.jobs} 个空作业", "array"),
        (f"(b) 分别提交 {options.jobs} 个，8 个客户端", "separate"),
    ):
        if rates[key]:
            print(f"| {name} | {spread(rates[key])} | {statistics.median(rates[key]) / limit:.2f} |")
        else:
            print(f"| {name} | 没有装，没有比 | |")
    for name, found in (("(c) 提交到脚本第一行，200 次", latency), ("HyperQueue 的 (c)，50 次", peer_latency)):
        if found:
            p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99)]
            print(f"| {name} | p50 {p50:.1f} ms，p99 {p99:.1f} ms | |")
    print(f"| (d) 提交：单个，8 个客户端 | {single:.0f} | |")
    print(f"| (d) 提交：批量，一次 10,000 个 | {batch:.0f} | |")
    if options.json:
        measured = {"rates": rates, "latency_ms": latency, "hyperqueue_latency_ms": peer_latency}
        options.json.write_text(json.dumps({**measured, "submit_single": single, "submit_batch": batch}))


if __name__ == "__main__":
    main()
