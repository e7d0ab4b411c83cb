#!/usr/bin/env python3
"""混沌测试：经 API 提交成千的作业，同时随机地杀死、停住、清空各个组件；最后核对每一个被接受的作业。

python scripts/chaos.py --seed 7 --jobs 2000
最后一行是 seed=… jobs=… faults=… … lost=0 doubled=0 leaked=0；有任何一项不是零（或结局与脚本不符）退出码为 1。
"""

import argparse
import os
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path

import psycopg
from chaos_faults import Faults
from chaos_jobs import Workload
from chaos_pair import PairKeeper
from chaos_system import ChaosSystem, wait_until
from chaos_verdict import Verdict, judge, judge_nodes, unfinished

# 缺省每秒提交这么多，使提交摊在一分钟左右的故障里。
JOBS_PER_S = 35.0
LEAST_SPREAD_S = 15.0
SETTLE_WAIT_S = 240.0
CLEAN_WAIT_S = 20.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="混沌测试")
    parser.add_argument("--seed", type=int, default=1, help="种子：作业与故障都由它决定")
    parser.add_argument("--jobs", type=int, default=2000, help="提交多少个作业")
    parser.add_argument("--nodes", type=int, default=4, help="几个节点")
    parser.add_argument("--cpus", type=int, default=8, help="每个节点声明几个 CPU")
    parser.add_argument("--arrays", type=float, default=0.05, help="数组占多少")
    parser.add_argument("--wide", type=float, default=0.05, help="两个节点的作业占多少")
    parser.add_argument("--seconds", type=float, help="故障持续多少秒；缺省按作业数")
    parser.add_argument("--failover", action="store_true", help="数据库是 Debian 的一主一备，加上主备切换这种故障")
    parser.add_argument("--keep", action="store_true", help="留下数据与日志")
    return parser.parse_args()


def _all_ended(system: ChaosSystem) -> bool:
    try:
        with system.database() as connection:
            return unfinished(connection) == 0
    except psycopg.Error:
        return False


def _nodes_back(system: ChaosSystem) -> bool:
    """节点都回来了、收件箱空了。"""
    try:
        with system.database() as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM nodes WHERE state = 'UP'), (SELECT count(*) FROM scheduler_inbox)"
            ).fetchone()
            return row == (len(system.nodes), 0)
    except psycopg.Error:
        return False


def _nothing_left(system: ChaosSystem) -> bool:
    verdict = Verdict()
    judge_nodes(system, verdict, stopped=False)
    return verdict.good


def run(options: argparse.Namespace, root: Path) -> bool:
    """从头到尾；全部相符返回 True。"""
    began = time.monotonic()
    spread_s = options.seconds or max(LEAST_SPREAD_S, options.jobs / JOBS_PER_S)
    pair = PairKeeper(root / "pair") if options.failover else None
    try:
        system = ChaosSystem(root, options.nodes, options.cpus, pair=pair)
    except SystemExit:
        if pair is not None:
            pair.stop()
        raise
    print(f"系统已就绪（{time.monotonic() - began:.1f} 秒），数据在 {root}", flush=True)
    rng = random.Random(f"{options.seed}-jobs")
    workload = Workload(root, rng, options.jobs, spread_s, options.arrays, options.wide)
    faults = Faults(system, random.Random(f"{options.seed}-faults"))
    stop = threading.Event()
    submitter = threading.Thread(target=workload.submit_all, args=(system.url, system.token, stop), name="submit")
    chaos_began = time.monotonic()
    try:
        submitter.start()
        faults.run(lambda: submitter.is_alive() or time.monotonic() - chaos_began < spread_s)
        chaos_s = time.monotonic() - chaos_began
        print(f"提交了 {len(workload.accepted)} 个作业，故障 {sum(faults.counts.values())} 次，用时 {chaos_s:.0f} 秒")
        if pair is not None:
            pair.settle()
        settled = wait_until(lambda: _all_ended(system), SETTLE_WAIT_S, 0.2)
        settle_s = time.monotonic() - chaos_began - chaos_s
        wait_until(lambda: _nodes_back(system) and _nothing_left(system), CLEAN_WAIT_S, 0.2)
        verdict = judge(system, workload)
        judge_nodes(system, verdict, stopped=False)
    finally:
        stop.set()
        system.resume_all()
        submitter.join()
        code = system.stop()
        if pair is not None:
            pair.stop()
    if code != 0:
        verdict.wrong.append(f"scns up 没有干净地停下（退出码 {code}）")
    judge_nodes(system, verdict, stopped=True)
    if workload.failure is not None or len(workload.accepted) < options.jobs:
        verdict.wrong.append(f"只提交了 {len(workload.accepted)} 个作业；{workload.failure}")
    _report(options, workload, faults, verdict, settled=settled, settle_s=settle_s, total_s=time.monotonic() - began)
    return verdict.good


def _report(
    options: argparse.Namespace,
    workload: Workload,
    faults: Faults,
    verdict: Verdict,
    *,
    settled: bool,
    settle_s: float,
    total_s: float,
) -> None:
    print("故障  " + "  ".join(f"{name}={count}" for name, count in sorted(faults.counts.items())))
    print(f"接力启动 {verdict.relayed} 次")
    print("结局  " + "  ".join(f"{name}={count}" for name, count in sorted(verdict.states.items())))
    print(f"提交时重试 {workload.retries} 次：{dict(workload.refusals)}")
    print(f"故障停止后 {settle_s:.1f} 秒{'全部结束' if settled else '仍没有全部结束'}")
    for complaint in verdict.complaints():
        print(complaint)
    if options.keep or not verdict.good:
        print(f"数据与日志留在 {workload.root}")
    print(
        f"seed={options.seed} jobs={len(workload.accepted)} faults={sum(faults.counts.values())} "
        f"attempts={verdict.attempts} seconds={total_s:.0f} wrong={len(verdict.wrong)} "
        f"lost={len(verdict.lost)} doubled={len(verdict.doubled)} leaked={len(verdict.leaked)}",
        flush=True,
    )


def main() -> int:
    """退出码 0 表示全部相符。"""
    options = _arguments()
    root = Path(tempfile.mkdtemp(prefix="scns-chaos-"))
    os.chmod(root, 0o755)
    good = False
    try:
        good = run(options, root)
    finally:
        if good and not options.keep:
            shutil.rmtree(root)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
