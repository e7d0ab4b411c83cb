"""给系统的负载：(a) 数组、(b) 分别提交、(c) 延迟、(d) 提交的速率。"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from system import Failed, System

NOOP = "#!/bin/bash\n"
CLIENTS = 8
LATENCY_WAIT_S = 60.0


def submission(job: dict[str, Any], script: str) -> bytes:
    """POST /jobs/submit 的正文。"""
    return json.dumps({"job": job, "script": script}).encode()


def in_threads(work: Sequence[Callable[[], None]]) -> None:
    """各在一个线程里做，等全部做完；有一个失败就抛它的错。"""
    errors: list[Exception] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # 线程里的错带回主线程
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def array_rate(system: System, jobs: int, **options: Any) -> float:
    """(a) 每秒跑完几个数组任务。"""
    before, began = system.last_job(), time.perf_counter()
    job = {**system.job, "array": f"0-{jobs - 1}", **options}
    system.call("POST", "/jobs/submit", {"job": job, "script": NOOP})
    system.wait_completed(before, jobs)
    return jobs / (time.perf_counter() - began)


def separate_rate(system: System, jobs: int, **options: Any) -> float:
    """(b) 每秒跑完几个分别提交的作业，CLIENTS 个客户端，各有自己的脚本与输出文件。"""
    wires = [system.wire() for _ in range(CLIENTS)]

    def submit(first: int) -> None:
        for index in range(first, jobs, CLIENTS):
            job = {**system.job, "name": f"s{index}", "standard_output": f"out-{index}", **options}
            wires[first].request("POST", "/jobs/submit", submission(job, f"{NOOP}# {index}\n"))

    before, began = system.last_job(), time.perf_counter()
    in_threads([lambda first=first: submit(first) for first in range(CLIENTS)])  # type: ignore[misc]
    system.wait_completed(before, jobs)
    elapsed = time.perf_counter() - began
    for wire in wires:
        wire.close()
    return jobs / elapsed


def wait_mark(mark: Path, began: float, what: str) -> float:
    """等脚本落下记号，返回过了多少毫秒，并删掉它。"""
    while not mark.exists():
        if time.perf_counter() - began > LATENCY_WAIT_S:
            raise Failed(f"{what}：{LATENCY_WAIT_S:g} 秒里没有落下记号")
        time.sleep(0.0003)
    elapsed = (time.perf_counter() - began) * 1000
    mark.unlink()
    return elapsed


def latencies_ms(system: System, times: int, **options: Any) -> list[float]:
    """(c) 提交到脚本第一行，毫秒，依次。"""
    wire, found = system.wire(), []
    for index in range(times):
        mark = system.scratch / f"mark-{index}"
        body = submission({**system.job, **options}, f"{NOOP}: > {mark}\n")
        began = time.perf_counter()
        wire.request("POST", "/jobs/submit", body)
        found.append(wait_mark(mark, began, "本系统"))
        time.sleep(0.02)
    wire.close()
    return found


def submit_rates(system: System, single: int, batch: int) -> tuple[float, float]:
    """(d) 每秒提交几个：单个（CLIENTS 个客户端、长连接）与批量；作业都保留着不跑。"""
    job = {**system.job, "name": "held", "hold": True}
    body, wires = submission(job, NOOP), [system.wire() for _ in range(CLIENTS)]

    def submit(index: int) -> None:
        for _ in range(single // CLIENTS):
            wires[index].request("POST", "/jobs/submit", body)

    began = time.perf_counter()
    in_threads([lambda index=index: submit(index) for index in range(CLIENTS)])  # type: ignore[misc]
    singles = single // CLIENTS * CLIENTS / (time.perf_counter() - began)
    many = json.dumps({"jobs": [{"job": job, "script": NOOP}] * batch}).encode()
    began = time.perf_counter()
    wires[0].request("POST", "/jobs/submit/batch", many)
    batches = batch / (time.perf_counter() - began)
    for wire in wires:
        wire.close()
    return singles, batches
