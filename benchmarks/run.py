#!/usr/bin/env python3
"""make bench：本系统（内嵌 PostgreSQL，fsync 开着）与同一台机器上的对手轮流跑，量(a)–(k)，对照目标。

例：make bench ARGS='--only a,b,c --rounds 1 --jobs 500'（一分钟）；缺省全部，一刻钟左右。
进度写到 stderr，报告写到 stdout，另存 report.md、report.json、report.svg 到 --output。
--render report.json 用存下的数重新出报告。退出码 1：有哪一项没有量成（没有达到目标不算）。
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backlog
import debian
import everyday
import footprint
import history
import multinode
import nodes
from chart import svg
from goals import goals
from peers import HyperQueue, rq_rate, xargs_rate
from processes import ORDER, cpu_s
from report import TITLES, markdown
from slurm_peer import Slurm
from system import Failed, System, running_system
from workload import CLIENTS, array_rate, latencies_ms, separate_rate, submit_rates

BATCH = 10_000
# 慢的对手少跑几个：每秒个数一样准，整个运行不至于太长。
SLURM_SHARE = 10
SLURM_LATENCIES = 10


class Run:
    """一次运行：一项一项量，一项失败不连累别的。"""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self.scratch = scratch
        self.scenarios: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.absent: dict[str, str] = {}
        self.hyperqueue: HyperQueue | None = None
        self.slurm: Slurm | None = None

    def wants(self, keys: str) -> bool:
        """这几项里有没有要量的。"""
        return any(key in self.options.only for key in keys)

    def attempt(self, key: str, action: Callable[[], Any]) -> Any:
        """做一件；失败记下原因，返回 None。"""
        began = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {key} {TITLES.get(key[:1], '')}……", file=sys.stderr, flush=True)
        try:
            return action()
        except Exception as error:  # 一项失败不连累别的：记进报告，退出码为 1
            self.errors[key] = str(error) or type(error).__name__
            if not isinstance(error, Failed):
                traceback.print_exc()
            print(f"    没有量成：{self.errors[key]}", file=sys.stderr, flush=True)
            return None
        finally:
            print(f"    {time.monotonic() - began:.0f} 秒", file=sys.stderr, flush=True)

    # ---- 对手 ----

    def start_peers(self) -> None:
        """装了的起好；没有装的、起不来的记下。"""
        for name, kind in (("hyperqueue", HyperQueue), ("slurm", Slurm)):
            if name in self.options.without:
                self.absent[name] = f"--without {name}"
                continue
            reason = kind.missing()
            if reason is not None:
                self.absent[name] = reason
                continue
            start: Callable[[], Any] = Slurm if kind is Slurm else lambda: HyperQueue(self.scratch)
            try:
                setattr(self, name, start())
            except Exception as error:  # 起不来的对手照实写，别的照比
                self.absent[name] = f"没有起来：{error}"

    def stop_peers(self) -> None:
        """停下起过的。"""
        for peer in (self.hyperqueue, self.slurm):
            if peer is not None:
                peer.close()
        self.hyperqueue = self.slurm = None

    # ---- 人们真正在跑的 (k) ----

    def as_people_run(self) -> None:
        """(k)：有上限、有自己的输出的作业，槽从很多到与核一样多。"""
        options = self.options
        self.scenarios["k"] = everyday.measure(
            self.scratch,
            [int(word) for word in options.slots.split(",")],
            max(CLIENTS, options.jobs // 3),
            options.rounds,
            lambda line: print(line, file=sys.stderr, flush=True),
            peer="hyperqueue" not in options.without,
        )

    # ---- 与对手轮流的 (a)–(d) ----

    def side_by_side(self) -> None:
        """(a)–(d)：每一轮各家各跑一次。"""
        self.start_peers()
        try:
            with running_system(self.scratch, "abcd") as system:
                array_rate(system, 200)
                for key, one_round in (("a", self._round_a), ("b", self._round_b), ("c", self._round_c)):
                    if self.wants(key):
                        for number in range(self.options.rounds):
                            self.attempt(f"{key} 第 {number + 1} 轮", lambda run=one_round: run(system))  # type: ignore[misc]
            if self.wants("d"):
                with running_system(self.scratch, "submit") as system:
                    for number in range(self.options.rounds):
                        self.attempt(f"d 第 {number + 1} 轮", lambda: self._round_d(system))
        finally:
            self.stop_peers()

    def _add(self, key: str, who: str, values: list[float], jobs: int | None = None) -> None:
        found = self.scenarios.setdefault(key, {} if jobs is None else {"jobs": {}})
        found.setdefault(who, []).extend(values)
        if jobs is not None:
            found["jobs"][who] = jobs
        if jobs is not None:
            print(f"    {who} {values[0]:.0f}/s", file=sys.stderr, flush=True)

    def _add_cpu(self, key: str, used: Counter[str], jobs: int) -> None:
        total: Counter[str] = self.scenarios[key].setdefault("cpu_total", Counter())
        total.update({**used, "jobs": jobs})
        self.scenarios[key]["cpu_ms_per_job"] = {
            kind: total[kind] * 1000 / total["jobs"] for kind in ORDER if total[kind]
        }

    def _round_a(self, system: System) -> None:
        jobs, few = self.options.jobs, max(50, self.options.jobs // SLURM_SHARE)
        self._add("a", "xargs", [xargs_rate(self.scratch, jobs)], jobs)
        before = cpu_s(system)
        self._add("a", "scns", [array_rate(system, jobs)], jobs)
        self._add_cpu("a", cpu_s(system) - before, jobs)
        if self.hyperqueue:
            self._add("a", "hyperqueue", [self.hyperqueue.task_rate(jobs)], jobs)
        if self.slurm:
            self._add("a", "slurm", [self.slurm.array_rate(few)], few)
        self._add("a", "rq", [rq_rate(self.scratch, max(50, jobs // 3))], max(50, jobs // 3))

    def _round_b(self, system: System) -> None:
        jobs = max(CLIENTS, self.options.jobs // 3)
        few = max(50, jobs // SLURM_SHARE * 2)
        before = cpu_s(system)
        self._add("b", "scns", [separate_rate(system, jobs)], jobs)
        self._add_cpu("b", cpu_s(system) - before, jobs)
        if self.hyperqueue:
            self._add("b", "hyperqueue", [self.hyperqueue.separate_rate(jobs)], jobs)
        if self.slurm:
            self._add("b", "slurm", [self.slurm.separate_rate(few, CLIENTS)], few)
        self._add("b", "xargs", [xargs_rate(self.scratch, jobs)], jobs)

    def _round_c(self, system: System) -> None:
        times = -(-self.options.latencies // self.options.rounds)
        self._add("c", "scns", latencies_ms(system, times))
        if self.hyperqueue:
            self._add("c", "hyperqueue", self.hyperqueue.latencies_ms(times))
        if self.slurm:
            few = -(-min(times, SLURM_LATENCIES) // self.options.rounds)
            self._add("c", "slurm", self.slurm.latencies_ms(few))
            with contextlib.closing(Slurm(tuned=False)) as untuned:
                self._add("c", "slurm_default", untuned.latencies_ms(few))

    def _round_d(self, system: System) -> None:
        single, batch = submit_rates(system, self.options.submits, BATCH)
        self._add("d", "single", [single])
        self._add("d", "batch", [batch])
        self.scenarios["d"]["batch_size"] = BATCH
        if self.slurm:
            self._add("d", "slurm", [self.slurm.submit_rate(100, CLIENTS)])

    # ---- 内嵌的与 Debian 的 PostgreSQL 轮流的 (j) ----

    def on_debian(self) -> None:
        """(j)：缺省设置的 Debian 的 PostgreSQL 上跑得一样快。"""
        folder = self.scratch / "debian"
        folder.mkdir()
        options = self.options
        self.scenarios["j"] = debian.measure(folder, options.rounds, options.jobs, options.latencies)

    # ---- 只有本系统的 (e)–(i) ----

    def alone(self) -> None:
        """(e)、(f) 共用一个系统（十万个排队的留着）；(g)、(h)、(i) 各用各的。"""
        options = self.options
        if self.wants("ef"):
            with running_system(self.scratch, "queue") as system:
                if self.wants("e"):
                    with running_system(self.scratch, "bare") as bare:
                        self._keep("e", lambda: backlog.measure(
                            system, bare, max(CLIENTS, options.jobs // 3), options.latencies, options.pending,
                            2 * options.rounds,
                        ))  # fmt: skip
                elif self.attempt("f 先提交排队的作业", lambda: backlog.fill(system, options.pending)) is None:
                    return
                if self.wants("f"):
                    self._keep("f", lambda: history.measure(system, options.finished, options.reads))
        if self.wants("g"):
            with running_system(self.scratch, "nodes", cpus=1) as system:
                self._keep("g", lambda: nodes.measure(system, options.nodes, options.seconds))
        if self.wants("h"):
            with running_system(self.scratch, "memory") as system:
                self._keep("h", lambda: footprint.measure(system, options.memory_jobs))
        if self.wants("i"):
            with running_system(self.scratch, "multi", cpus=multinode.CPUS, nodes=multinode.NODES) as system:
                self._keep("i", lambda: multinode.measure(system, 10, 60))

    def _keep(self, key: str, action: Callable[[], Any]) -> None:
        found = self.attempt(key, action)
        if found is not None:
            self.scenarios[key] = found


def machine() -> dict[str, Any]:
    """这台机器与这个版本。"""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory_kb = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    root = Path(__file__).resolve().parents[1]
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cpu_model": model,
        "memory_gib": memory_kb / 1024**2,
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "revision": described.stdout.strip() or "不明",
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """命令行。"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="kabcdefghij", help="只量这几项，如 a,b,c")
    parser.add_argument("--without", default="", help="不比这几家：hyperqueue,slurm")
    parser.add_argument("--slots", default="64,8,2", help="(k) 几个槽，依次")
    parser.add_argument("--rounds", type=int, default=3, help="与对手轮流几轮")
    parser.add_argument("--jobs", type=int, default=3000, help="(a) 一轮几个；(b)、(k) 是它的三分之一")
    parser.add_argument("--latencies", type=int, default=200, help="(c) 几次")
    parser.add_argument("--submits", type=int, default=2000, help="(d) 单个提交几个")
    parser.add_argument("--pending", type=int, default=100_000, help="(e)、(f) 排队的作业")
    parser.add_argument("--finished", type=int, default=1_000_000, help="(f) 结束的作业")
    parser.add_argument("--reads", type=int, default=200, help="(f) 每种读几次")
    parser.add_argument("--nodes", default="10,100,1000", help="(g) 几个模拟的节点，依次")
    parser.add_argument("--seconds", type=float, default=15, help="(g) 每种节点数量几秒")
    parser.add_argument("--memory-jobs", type=int, default=100_000, help="(h) 跑几个")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="报告写到这个目录")
    parser.add_argument("--render", type=Path, help="不量，用这份 report.json 重新出报告")
    options = parser.parse_args(arguments)
    options.only = sorted(set(options.only.replace(",", "")))
    unknown = [key for key in options.only if key not in TITLES]
    if unknown or min(options.rounds, options.jobs, options.latencies, options.pending, options.finished) < 1:
        parser.error(f"--only 只有 {','.join(TITLES)}；各个数都要是正的")
    options.nodes = [int(word) for word in options.nodes.split(",")]
    options.without = options.without.split(",")
    return options


def write(results: dict[str, Any], output: Path) -> None:
    """存 JSON、图、Markdown，并把 Markdown 打印出来。"""
    output.mkdir(parents=True, exist_ok=True)
    picture = svg(results["scenarios"])
    if picture is not None:
        (output / "report.svg").write_text(picture)
        results["bars"] = "report.svg"
    (output / "report.json").write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n")
    text = markdown(results)
    (output / "report.md").write_text(text)
    print(text)


def main() -> int:
    """量，写报告。"""
    options = parse()
    if options.render is not None:
        write(json.loads(options.render.read_text()), options.output)
        return 0
    described, began, started = machine(), time.strftime("%Y-%m-%d %H:%M"), time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="scns-bench-"))
    scratch.chmod(0o755)
    run = Run(options, scratch)
    try:
        if run.wants("k"):
            run.attempt("k", run.as_people_run)
        if run.wants("abcd"):
            run.attempt("a–d", run.side_by_side)
        if run.wants("efghi"):
            run.attempt("e–i", run.alone)
        if run.wants("j"):
            run.attempt("j", run.on_debian)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    results = {
        "began": began,
        "took_s": time.monotonic() - started,
        "machine": described,
        "options": {name: value for name, value in vars(options).items() if name not in ("output", "render")},
        "scenarios": run.scenarios,
        "absent": run.absent,
        "errors": run.errors,
    }
    write(results, options.output)
    missed = [goal for goal in goals(run.scenarios) if goal.met is False]
    print(f"目标里没有达到的 {len(missed)} 条；报告在 {options.output}/report.md", file=sys.stderr)
    return 1 if run.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
