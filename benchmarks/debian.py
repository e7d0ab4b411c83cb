"""(j) Debian 的 PostgreSQL（缺省设置）与内嵌的轮流：两套照部署那样起的服务，除了数据库什么都一样。"""

import http.client
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from system import SLOTS, Failed, System
from workload import NOOP, latencies_ms, separate_rate

from scns_conductor.core.database import direct_connection
from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import running_engines

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from debian_postgres import debian_postgres, debian_programs, deployed_system
from running_system import RunningSystem

# 人们真的写的：内存与时限，各有自己的输出文件。
LIMITS = {"memory_per_node": "64M", "time_limit": "10"}


class Deployed(System):
    """deployed_system 起的一套，量的办法与 scns up 的相同。"""

    def __init__(self, running: RunningSystem) -> None:
        self.scratch = self.data = running.data_dir
        self.process = running.process
        self.url, self.token = running.url, running.token
        self.host, _, port = self.url.removeprefix("http://").partition(":")
        self.port = int(port)
        words = shlex.split((self.data / "environment").read_text())
        self.connections = dict(word.partition("=")[::2] for word in words if "=" in word)
        settings = Settings(database_url=SecretStr(self.connections["SCNS_DATABASE_URL"]))
        self.database = direct_connection(settings, "bench")
        self.job: dict[str, Any] = {"current_working_directory": str(self.scratch), "standard_output": "/dev/null"}
        self._main = http.client.HTTPConnection(self.host, self.port)


@contextmanager
def both(scratch: Path) -> Iterator[dict[str, Deployed]]:
    """内嵌的与 Debian 的，同时在；Valkey 是同一个，各用各的库。"""
    if debian_programs() is None:
        raise Failed("没有装 Debian 的 postgresql")
    with ExitStack() as stack:
        engines = stack.enter_context(running_engines(scratch / "engines"))
        server = stack.enter_context(debian_postgres())
        server.execute("CREATE DATABASE scns")
        urls = {"embedded": engines.database_url, "debian": server.url("scns")}
        found = {}
        for number, (name, url) in enumerate(urls.items()):
            redis_url = engines.redis_url.replace("db=0", f"db={number}")
            running = stack.enter_context(deployed_system(scratch / name, url, redis_url, cpus=SLOTS))
            found[name] = Deployed(running)
            stack.callback(found[name].database.close)
        yield found


def array_rate(system: System, jobs: int) -> float:
    """每秒跑完几个带上限、有自己的输出的数组任务。"""
    before, began = system.last_job(), time.perf_counter()
    job = {**system.job, **LIMITS, "array": f"0-{jobs - 1}", "standard_output": "out-%a"}
    system.call("POST", "/jobs/submit", {"job": job, "script": NOOP})
    system.wait_completed(before, jobs)
    return jobs / (time.perf_counter() - began)


def measure(scratch: Path, rounds: int, jobs: int, latencies: int) -> dict[str, dict[str, list[float]]]:
    """每一轮各跑一次，先后对调；头一轮之前先热一热。"""
    found: dict[str, dict[str, list[float]]] = {"array": {}, "separate": {}, "latency_ms": {}}
    with both(scratch) as systems:
        for system in systems.values():
            array_rate(system, max(50, jobs // 5))
        for number in range(rounds):
            for name in sorted(systems, reverse=bool(number % 2)):
                system = systems[name]
                found["array"].setdefault(name, []).append(array_rate(system, jobs))
                found["separate"].setdefault(name, []).append(separate_rate(system, max(50, jobs // 3), **LIMITS))
                found["latency_ms"].setdefault(name, []).extend(latencies_ms(system, -(-latencies // rounds)))
    return found
