"""看板的一百个标签页：十万个作业在排队，有人交了一个，各页多久看见；一页占看板进程多少内存。

标签页是真的：取页面，接上 websocket，像浏览器那样说要看什么；只是不画。
用法：python benchmarks/web_tabs.py [--tabs 100] [--jobs 100000]
"""

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import socketio

from scns_conductor.web.login_links import create_login_link

BATCH = 10_000
FIELDS = (
    "job_id,array_job_id,array_task_id,name,user_name,partition,state,reason,submit_time,start_time,tasks,cpus_per_task"
)
LISTS = [
    f"/jobs?sort=-job_id&limit=50&fields={FIELDS}&arrays=folded",
    f"/jobs?user=root&sort=-job_id&limit=50&fields={FIELDS}&arrays=folded",
    f"/jobs?state=PENDING&sort=-job_id&limit=50&fields={FIELDS}",
    f"/jobs?partition=main&sort=-submit_time&limit=50&fields={FIELDS}",
]


class Tab:
    """一个标签页：看一个列表与总览。"""

    def __init__(self, url: str, cookies: httpx.Cookies, number: int) -> None:
        self.url, self.number = url, number
        self.cookies = cookies
        self.socket = socketio.AsyncClient(reconnection=False)
        self.seen: dict[str, float] = {}
        self.wanted = ""
        self.updates = 0
        self._news = asyncio.Event()

    async def open(self) -> None:
        """取页面，接上，说要看什么。"""
        async with httpx.AsyncClient(cookies=self.cookies, timeout=60) as client:
            text = (await client.get(self.url + "/jobs")).text
        client_id = re.search(r"'client_id': '([0-9a-f-]+)'", text)
        element = re.search(r'"(\d+)":\{"tag":"nicegui-bridge".*?"listener_id":"([0-9a-f-]+)","type":"watch"', text)
        assert client_id
        assert element
        self.socket.on("run_javascript", self._received)
        query = f"client_id={client_id[1]}&next_message_id=0&implicit_handshake=true"
        query += f"&document_id=d{self.number}&tab_id=t{self.number}"
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        await self.socket.connect(
            f"{self.url}?{query}",
            headers={"Cookie": cookie},
            socketio_path="/_nicegui_ws/socket.io",
            transports=["websocket"],
        )
        for index, target in enumerate([LISTS[self.number % len(LISTS)], "/dashboard"]):
            detail = {"id": index + 1, "target": target, "every": 1.5}
            await self.socket.emit(
                "event",
                {
                    "id": int(element[1]),
                    "client_id": client_id[1],
                    "listener_id": element[2],
                    "args": [json.dumps(detail)],
                },
            )

    async def saw(self, name: str, deadline: float) -> None:
        """等到看见 name，或到时。"""
        while name not in self.seen and (left := deadline - time.monotonic()) > 0:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    def _received(self, message: dict[str, Any]) -> None:
        self.updates += 1
        self._news.set()
        if self.wanted and self.wanted in message["code"]:
            self.seen.setdefault(self.wanted, time.monotonic())


def rss_mb(pid: int) -> float:
    """进程占着的内存（MiB）。"""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def cpu_s(pid: int) -> float:
    """进程用掉的 CPU（秒）。"""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def web_pid(parent: int) -> int:
    """看板的进程。"""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"scns_conductor.web" in words and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(
                    parent
                ):
                    return int(entry.name)
            except OSError:
                continue
    raise SystemExit("找不到看板的进程")


async def measure(ready: dict[str, Any], data_dir: Path, tabs: int, jobs: int) -> None:
    """交作业、开标签页、量。"""
    headers = {"Authorization": f"Bearer {ready['token']}"}
    async with httpx.AsyncClient(base_url=ready["url"], headers=headers, timeout=300) as api:
        one = {"job": {"name": "waiting", "hold": True, "current_working_directory": "/tmp"}, "script": "#!/bin/sh\n"}
        for _ in range(jobs // BATCH):
            (await api.post("/jobs/submit/batch", json={"jobs": [one] * BATCH})).raise_for_status()
        print(f"排队的作业：{jobs:,}")
        async with httpx.AsyncClient(timeout=60) as visitor:
            await visitor.get(create_login_link(data_dir, ready["web"], ready["token"]))
            cookies = visitor.cookies
        pid = web_pid(ready["pid"])
        opened = [Tab(ready["web"], cookies, number) for number in range(tabs)]
        await opened[0].open()
        await asyncio.sleep(3)
        before = rss_mb(pid)
        for tab in opened[1:]:
            await tab.open()
        await asyncio.sleep(15)
        print(f"内存：{before:.0f} → {rss_mb(pid):.0f} MiB，一页 {(rss_mb(pid) - before) / max(1, tabs - 1):.2f} MiB")
        spent, began = cpu_s(pid), time.monotonic()
        delays: list[float] = []
        for turn in range(10):
            name = f"marker-{turn}-{time.time_ns()}"
            for tab in opened:
                tab.wanted = name
            (await api.post("/jobs/submit", json={**one, "job": {**one["job"], "name": name}})).raise_for_status()
            at = time.monotonic()
            deadline = at + 30
            for tab in opened:
                # 各页自己记下看见的时刻，这里只等到都看见。
                await tab.saw(name, deadline)
            missed = sum(name not in tab.seen for tab in opened)
            if missed:
                print(f"第 {turn + 1} 次有 {missed} 页 30 秒没有看见")
            delays += [tab.seen[name] - at for tab in opened if name in tab.seen]
        ordered = sorted(delays)
        middle, nine, busy = statistics.median(ordered), ordered[int(len(ordered) * 0.9)], cpu_s(pid) - spent
        print(f"{tabs} 页看见新作业：中位 {middle:.2f} 秒，九成 {nine:.2f} 秒，最慢 {ordered[-1]:.2f} 秒")
        print(f"看板的 CPU：{busy / (time.monotonic() - began) * 100:.0f}%")
        for tab in opened:
            await tab.socket.disconnect()


def main() -> None:
    """起一套系统，量，停下。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tabs", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scns-tabs-") as folder:
        data_dir, ready_file = Path(folder) / "data", Path(folder) / "ready.json"
        command = [
            sys.executable,
            "-m",
            "scns_conductor.local",
            "up",
            "--web",
            "--data-dir",
            str(data_dir),
            "--port",
            "0",
        ]
        command += ["--ready-file", str(ready_file), "--nodes", "1", "--cpus", "1", "--memory", "1G"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not ready_file.exists():
                if process.poll() is not None:
                    raise SystemExit("系统没有起来")
                time.sleep(0.1)
            asyncio.run(measure(json.loads(ready_file.read_text()), data_dir, given.tabs, given.jobs))
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
