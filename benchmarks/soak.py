#!/usr/bin/env python3
"""一直满载地跑很多个作业（make soak SIZE=1000000）：哪个进程在长，热表涨不涨，末了还一样快不快。

前 --warm 个之后记下各进程的内存作底，此后每 --every 个记一次，一边跑一边记，不停下来等它静；
跑完整理一遍表（VACUUM FULL），前后的大小之比就是胀了几倍。输出是 Markdown；--json 另存每一次的数。
退出码 1：有作业没有跑完。
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from processes import Grown, cpu_s, each_memory
from system import Failed, System, running_system
from workload import array_rate

# 胀了几倍要看的表；索引各算各的。
HOT = ("jobs", "resource_allocations", "scheduler_inbox")
QUIET_S = 3.0
# 头尾各看这么大一段的速率。
SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """跑过 jobs 个时各进程（进程号）的内存，此前一段每秒几个、每个用了几毫秒 CPU（连作业自己）。"""

    jobs: int
    rate: float
    cpu_ms: float
    memory: Mapping[int, Grown]


def sizes(system: System) -> dict[str, int]:
    """热表与它们的索引各占几个字节。"""
    rows = system.database.execute(
        "SELECT c.relname, pg_relation_size(c.oid) FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid "
        "JOIN pg_class AS t ON t.oid = coalesce(i.indrelid, c.oid) JOIN pg_namespace AS n ON n.oid = t.relnamespace "
        "WHERE n.nspname = 'public' AND t.relname = ANY(%s) AND c.relkind IN ('r', 'i') ORDER BY t.relname, c.relname",
        [list(HOT)],
    ).fetchall()
    return {str(name): int(size) for name, size in rows}


def soak(system: System, jobs: int, warm: int, every: int, say: Any) -> list[Sample]:
    """跑 jobs 个，一段一个数组；头一个是暖身之后的。"""
    done, samples = 0, list[Sample]()
    while done < jobs:
        count = min(every if samples else warm, jobs - done)
        before = cpu_s(system).total()
        rate = array_rate(system, count)
        cpu_ms = (cpu_s(system).total() - before) * 1000 / count
        done += count
        samples.append(Sample(done, rate, cpu_ms, each_memory(system)))
        say(f"{done} 个：{rate:.0f}/s，每个 {cpu_ms:.2f} 毫秒 CPU")
    return samples


def growth(samples: list[Sample]) -> list[tuple[str, int, float, float, float]]:
    """(哪一类, 进程号, 暖身之后 MiB, 末了 MiB, 最大 MiB)，只有一直在的；PostgreSQL 只算自己的，不算共用的缓冲区。"""
    found = []
    for pid, first in samples[0].memory.items():
        each = [sample.memory[pid].own_kb / 1024 for sample in samples if pid in sample.memory]
        if pid in samples[-1].memory:
            found.append((first.kind, pid, each[0], each[-1], max(each)))
    return sorted(found, key=lambda row: row[2] - row[3])


def markdown(samples: list[Sample], before: Mapping[str, int], live: Mapping[str, int]) -> str:
    """报告。"""
    lines = ["| 进程 | 进程号 | 暖身之后（MiB） | 末了 | 最大 | 长了 |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {kind} | {pid} | {first:.1f} | {last:.1f} | {most:.1f} | {last - first:+.1f} |"
        for kind, pid, first, last, most in growth(samples)
    ]
    lines += ["", "| 表、索引 | 跑完时（MiB） | 整理之后 | 倍 |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {size / 2**20:.1f} | {live[name] / 2**20:.1f} | {size / max(live[name], 8192):.2f} |"
        for name, size in before.items()
    ]
    few = max(1, round(SHARE * (len(samples) - 1)))
    lines.append("")
    for what, each in (
        ("每秒个数", [sample.rate for sample in samples[1:]]),
        ("每个的 CPU（毫秒）", [sample.cpu_ms for sample in samples[1:]]),
    ):
        first, last = median(each[:few]), median(each[-few:])
        lines.append(f"{what}：头一成 {first:.2f}，末一成 {last:.2f}（{last / first:.3f}）")
    return "\n".join(lines)


def main() -> int:
    """跑，报告。"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="一共几个")
    parser.add_argument("--warm", type=int, default=50_000, help="头几个只是暖身")
    parser.add_argument("--every", type=int, default=10_000, help="每隔几个记一次")
    parser.add_argument("--cpus", type=int, default=64, help="几个槽")
    parser.add_argument("--json", type=Path, help="每一次的数另存这里")
    options = parser.parse_args()
    if not 0 < options.warm < options.jobs or options.every < 1:
        parser.error("--warm 要比 --jobs 少，都是正的")
    with (
        tempfile.TemporaryDirectory(prefix="scns-soak-") as folder,
        running_system(Path(folder), "soak", cpus=options.cpus) as system,
    ):
        Path(folder).chmod(0o755)
        say = lambda line: print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)  # noqa: E731
        try:
            samples = soak(system, options.jobs, options.warm, options.every, say)
        except Failed as error:
            say(str(error))
            return 1
        system.wait_quiet(QUIET_S)
        before = sizes(system)
        for table in HOT:
            system.database.execute(f"VACUUM FULL {table}")
        live = sizes(system)
        print(markdown(samples, before, live), flush=True)
    if options.json is not None:
        found = {"samples": [asdict(sample) for sample in samples], "sizes": before, "live_sizes": live}
        options.json.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
