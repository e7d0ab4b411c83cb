"""docs/simulator.md 的表：每份踪迹、每个策略的结果与用时，并逐个比较开始时刻。

比的是教科书的调度器（tests/textbook_scheduler.py）。

python benchmarks/simulate.py --data DIR [踪迹名的一段 ...] [--policy easy,...] [--no-check]
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import textbook_scheduler as textbook
from scns_conductor.simulator.policy_choice import PolicyChoice, parse_policies
from scns_conductor.simulator.runs import simulate
from scns_conductor.simulator.session import Request, Scene, prepare

POLICIES = "fifo,easy,conservative,sjf,wfp3,f1,multifactor"
DECISIONS = {"none": textbook.fifo, "easy": textbook.easy, "conservative": textbook.conservative}


def ranks(cpus: int) -> dict[str, Callable[[textbook.Job, int], float] | None]:
    """各次序的教科书写法；小者先排。"""
    return {
        "fifo": None,
        "sjf": lambda job, now: job.limit_s,
        "wfp3": lambda job, now: -(((now - job.submit_s) / job.limit_s) ** 3 * job.cpus),
        "f1": lambda job, now: math.log10(job.limit_s) * job.cpus + 870 * math.log10(max(1, job.submit_s)),
        "multifactor": lambda job, now: -(0.5 * min(1.0, (now - job.submit_s) / (7 * 86400)) + 0.5 * job.cpus / cpus),
    }


def textbook_starts(scene: Scene, choice: PolicyChoice) -> list[int]:
    """教科书的开始时刻。"""
    jobs = [textbook.Job(job.submit_s, job.run_s, job.limit_s, job.cpus) for job in scene.workload.jobs]
    cpus = scene.machine.cpus
    return textbook.simulate(jobs, cpus, DECISIONS[choice.backfill], ranks(cpus)[choice.order])


def main() -> int:
    """逐份、逐策略地跑，每个一行 Markdown；有不同的开始时刻则退出码 1。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="只跑文件名里有这些字的")
    parser.add_argument("--data", type=Path, required=True, help="踪迹的目录")
    parser.add_argument("--policy", default=POLICIES)
    parser.add_argument("--no-check", action="store_true", help="不与教科书的比较")
    options = parser.parse_args()
    differing = 0
    print("| 踪迹 | 策略 | 作业 | 平均有界慢化 | 平均等待 s | 利用率 | 总时长 s | 用时 s | 与教科书不同的开始时刻 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in sorted(options.data.glob("*.swf*")):
        if options.words and not any(word in path.name for word in options.words):
            continue
        scene = prepare(Request(source=path))
        for choice in parse_policies(options.policy):
            began = time.process_time()
            (result,) = simulate(scene, [choice])
            used_s, m = time.process_time() - began, result.metrics
            told = "—"
            if not options.no_check:
                expected = textbook_starts(scene, choice)
                differ = sum(ours != theirs for ours, theirs in zip(result.starts, expected, strict=True))
                told, differing = str(differ), differing + differ
            print(
                f"| {path.name.split('.swf')[0]} | {choice.label} | {m.jobs} | {m.avg_bounded_slowdown:.3f} "
                f"| {m.avg_wait_s:.1f} | {m.utilization:.4f} | {m.makespan_s:.0f} | {used_s:.1f} | {told} |",
                flush=True,
            )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
