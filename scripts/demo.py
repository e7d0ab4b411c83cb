#!/usr/bin/env python3
"""演示：启动一套临时的系统，经 HTTP 接口提交真实的作业，边跑边显示进度，最后列表核对，干净地停下。

只用标准库。退出码 0 表示每个作业都按预期结束；1 表示有不符的；2 表示系统没有起来。
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

CPUS = 4
SWEEP = 56
START_WAIT_S = 180.0
FINISH_WAIT_S = 180.0
STOP_WAIT_S = 120.0
TERMINAL = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE"}

GREETING = """#!/bin/bash
echo "你好，我是作业 $SLURM_JOB_ID，在 $SLURMD_NODENAME 上，有 $SLURM_CPUS_ON_NODE 个 CPU"
"""

PRIMES = """#!/usr/bin/env python3
# 一百万以内的素数：个数应为 78498，和应为 37550402023。
limit = 1_000_000
sieve = bytearray([1]) * (limit + 1)
sieve[0:2] = b"\\0\\0"
for n in range(2, int(limit**0.5) + 1):
    if sieve[n]:
        sieve[n * n :: n] = bytes(len(range(n * n, limit + 1, n)))
primes = [n for n, prime in enumerate(sieve) if prime]
print(len(primes), sum(primes))
"""

FAILING = """echo "输入文件不存在" >&2
exit 3
"""

ENDLESS = """#!/bin/bash
echo "开始一项永远做不完的工作"
sleep 600
"""

SQUARE = """#!/bin/bash
sleep 0.3
echo $(( $1 * $1 ))
"""


@dataclass
class Expectation:
    """一个作业，以及它应当怎样结束。"""

    name: str
    script: str
    state: str
    exit_code: str | None
    output: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    job_id: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    tail: str = ""

    def mismatch(self) -> str | None:
        """与预期不符之处；相符时为 None。"""
        state, code = self.answer["state"], self.answer["detail"]["exit_code"]
        if state != self.state:
            return f"状态应为 {self.state}，实际 {state}（{self.answer.get('error_msg') or '没有说明'}）"
        if self.exit_code is not None and code != self.exit_code:
            return f"退出码应为 {self.exit_code}，实际 {code}"
        if self.output is not None and self.output not in self.tail:
            return f"输出里应有 {self.output!r}，实际 {self.tail!r}"
        return None


class Api:
    """带令牌的 HTTP 接口。"""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token

    def text(self, method: str, path: str, body: Any = None) -> str:
        """发请求，返回正文；HTTP 错误时带上服务器的说明退出。"""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(answer.read().decode(errors="replace"))
        except urllib.error.HTTPError as error:
            raise SystemExit(
                f"{method} {path} 失败（{error.code}）：{error.read().decode(errors='replace')}"
            ) from error

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """发请求，返回 JSON。"""
        return json.loads(self.text(method, path, body))


def jobs_to_run() -> list[Expectation]:
    """全部演示作业；前五个各有看点，其余是一批小作业，多到节点装不下。"""
    special = [
        Expectation("hello", GREETING, "COMPLETED", "0:0", "你好，我是作业"),
        Expectation("primes", PRIMES, "COMPLETED", "0:0", "78498 37550402023"),
        Expectation("fails", FAILING, "FAILED", "3:0", "输入文件不存在"),
        Expectation("too-long", ENDLESS, "TIMEOUT", None, "永远做不完", {"time_limit": "0:02"}),
        Expectation("cancelled", ENDLESS, "CANCELLED", None, "永远做不完"),
    ]
    sweep = [
        Expectation(f"square-{n:02d}", SQUARE, "COMPLETED", "0:0", str(n * n), {"argv": [str(n)]})
        for n in range(1, SWEEP + 1)
    ]
    return [*special, *sweep]


def submit_all(api: Api, jobs: list[Expectation], work: Path) -> None:
    """前五个逐个提交，其余成批提交。"""
    bodies = []
    for job in jobs:
        described = {"name": job.name, "cpus_per_task": 1, "memory_per_node": "64M", "time_limit": "5"}
        described |= {"current_working_directory": str(work), **job.fields}
        bodies.append({"job": described, "script": job.script})
    for job, body in zip(jobs[:5], bodies[:5], strict=True):
        job.job_id = api.call("POST", "/jobs/submit", body)["job_id"]
        print(f"提交 {job.name}：作业 {job.job_id}")
    batch = api.call("POST", "/jobs/submit/batch", {"jobs": bodies[5:]})["job_ids"]
    for job, job_id in zip(jobs[5:], batch, strict=True):
        job.job_id = job_id
    print(f"成批提交 {len(batch)} 个小作业：{batch[0]} 到 {batch[-1]}；节点只有 {CPUS} 个 CPU，大部分要排队")


def watch(api: Api, total: int, on_tick: Callable[[], None]) -> int:
    """显示进度直到全部结束，返回见过的最多排队数。"""
    most_pending, shown = 0, ""
    deadline = time.monotonic() + FINISH_WAIT_S
    while time.monotonic() < deadline:
        counts = api.call("GET", "/dashboard")["jobs"]["by_state"]
        ended = sum(count for state, count in counts.items() if state in TERMINAL)
        pending, running = counts.get("PENDING", 0), counts.get("RUNNING", 0)
        most_pending = max(most_pending, pending)
        bar = "█" * (30 * ended // total)
        line = f"  [{bar:·<30}] 结束 {ended}/{total}  运行 {running}  排队 {pending}"
        if sys.stdout.isatty():
            print(f"\r{line}   ", end="", flush=True)
        elif line != shown:
            print(line, flush=True)
        shown = line
        on_tick()
        if ended >= total:
            break
        time.sleep(0.25)
    if sys.stdout.isatty():
        print()
    return most_pending


def seconds_between(start: str | None, end: str | None) -> str:
    """两个时刻相差的秒数；缺一个就是短横。"""
    if not start or not end:
        return "-"
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.2f}"


def collect(api: Api, job: Expectation) -> None:
    """问出结局与输出的末尾。"""
    job.answer = api.call("GET", f"/jobs/query/{job.job_id}")
    job.tail = api.text("GET", f"/jobs/{job.job_id}/logs/stdout?tail=2000")


def width(text: str) -> int:
    """在终端里占几格：汉字占两格。"""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def show_table(jobs: list[Expectation]) -> None:
    """列出每个作业的结局。"""
    rows = [("作业", "名字", "状态", "退出码", "节点", "等待/秒", "运行/秒", "输出的末尾")]
    for job in jobs:
        times, detail = job.answer["time"], job.answer["detail"]
        last = (job.tail.strip().splitlines() or [""])[-1]
        rows.append(
            (
                job.job_id,
                job.name,
                job.answer["state"],
                detail["exit_code"] or "-",
                detail["node_list"] or "-",
                seconds_between(times["submit_time"], times["start_time"]),
                seconds_between(times["start_time"], times["end_time"]),
                last if width(last) <= 60 else last[:40] + "…",
            )
        )
    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    for index, row in enumerate(rows):
        cells = [text + " " * (size - width(text)) for text, size in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
        if index == 0:
            print("  ".join("-" * size for size in widths))


def start(root: Path) -> tuple["subprocess.Popen[bytes]", Api]:
    """启动 scns up，等到就绪；起不来就打印它的输出并退出。"""
    ready, log_path = root / "ready.json", root / "up.log"
    command = [sys.executable, "-m", "scns_conductor.local", "up", "--no-web"]
    command += ["--data-dir", str(root / "data"), "--port", "0"]
    command += ["--ready-file", str(ready), "--nodes", "1", "--cpus", str(CPUS), "--memory", "8G"]
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    began = time.monotonic()
    try:
        while not ready.exists():
            if process.poll() is not None or time.monotonic() - began > START_WAIT_S:
                stop(process)
                print(log_path.read_text(errors="replace"), file=sys.stderr)
                print("系统没有起来", file=sys.stderr)
                raise SystemExit(2)
            time.sleep(0.05)
    except KeyboardInterrupt:
        stop(process)
        raise
    answer = json.loads(ready.read_text())
    print(f"系统已就绪（{time.monotonic() - began:.1f} 秒）：PostgreSQL、Valkey、API、调度器、节点 → {answer['url']}")
    return process, Api(answer["url"], answer["token"])


def stop(process: "subprocess.Popen[bytes]") -> int:
    """请系统停下，返回它的退出码。"""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    return process.wait(STOP_WAIT_S)


def run(api: Api, work: Path) -> bool:
    """提交、等待、核对；全部相符返回 True。"""
    jobs = jobs_to_run()
    submit_all(api, jobs, work)
    doomed = next(job for job in jobs if job.name == "cancelled")
    asked = False

    def cancel_once_running() -> None:
        nonlocal asked
        if asked or api.call("GET", f"/jobs/query/{doomed.job_id}")["state"] != "RUNNING":
            return
        # 等它写出第一行再取消，好看见取消之前的输出也留着。
        if "永远" in api.text("GET", f"/jobs/{doomed.job_id}/logs/stdout?tail=2000"):
            api.call("POST", f"/jobs/cancel/{doomed.job_id}")
            asked = True

    most_pending = watch(api, len(jobs), cancel_once_running)
    for job in jobs:
        collect(api, job)
    print()
    show_table(jobs)
    print()
    problems = [f"{job.name}（作业 {job.job_id}）：{why}" for job in jobs if (why := job.mismatch())]
    if most_pending == 0:
        problems.append("没有见到作业排队")
    for problem in problems:
        print(f"不符：{problem}")
    if not problems:
        print(f"{len(jobs)} 个作业全部按预期结束；最多时有 {most_pending} 个在排队")
    return not problems


def main() -> int:
    """从头到尾。"""
    root = Path(tempfile.mkdtemp(prefix="scns-demo-"))
    os.chmod(root, 0o700)
    work = root / "work"
    work.mkdir()
    process, api = start(root)
    good = False
    try:
        good = run(api, work)
    finally:
        code = stop(process)
        if code != 0:
            print(f"系统没有干净地停下（退出码 {code}），日志在 {root}", file=sys.stderr)
        elif good:
            print("系统已停下，临时数据已删除")
            print("在浏览器里看：make up，打开它打印的看板的链接（docs/web.md）")
            shutil.rmtree(root)
        else:
            print(f"数据与日志留在 {root}，供查看")
    return 0 if good and code == 0 else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
