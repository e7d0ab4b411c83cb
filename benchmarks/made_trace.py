#!/usr/bin/env python3
"""造一份 SDSC-BLUE 大小的踪迹（SWF）：python benchmarks/made_trace.py > blue.swf；种子固定，每次一样。

那份日志手边没有；像它的只是大小：232,536 个作业、1152 个处理器（8 的倍数）、利用率约 0.77、有白天黑夜。
"""

import argparse
import sys

import numpy as np

SIZES = np.array([8, 16, 32, 64, 128, 256, 512, 1024])
SIZE_SHARES = np.array([0.50, 0.13, 0.13, 0.10, 0.08, 0.04, 0.015, 0.005])
LIMITS_S = np.array([900, 1800, 3600, 7200, 14400, 21600, 43200, 64800, 86400, 129600])
DAY_S = 86400.0
LOAD = 0.77


def main() -> None:
    """写到标准输出。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=232_536)
    parser.add_argument("--procs", type=int, default=1152)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = np.random.default_rng(options.seed)
    cpus = dice.choice(SIZES, options.jobs, p=SIZE_SHARES / SIZE_SHARES.sum())
    run_s = np.clip(dice.lognormal(6.6, 2.0, options.jobs), 1, LIMITS_S[-1]).astype(np.int64)
    # 多数人申请的是几个整数里够用的一个，也有人多要一两档。
    enough = np.searchsorted(LIMITS_S, run_s) + dice.integers(0, 4, options.jobs)
    limit_s = LIMITS_S[np.minimum(enough, len(LIMITS_S) - 1)]
    span_s = float((cpus * run_s).sum()) / (options.procs * LOAD)
    # 一天里早多晚少：均匀的时刻挤到白天去。
    at = np.sort(dice.random(options.jobs)) * span_s
    submit_s = np.sort(at - 0.8 * DAY_S / (2 * np.pi) * np.cos(2 * np.pi * at / DAY_S)).astype(np.int64)
    submit_s -= submit_s[0]
    users = dice.zipf(1.6, options.jobs) % 400
    print(f"; Computer: made like SDSC-BLUE\n; MaxProcs: {options.procs}")
    for row in zip(range(1, options.jobs + 1), submit_s, run_s, cpus, limit_s, users, strict=True):
        number, submitted, ran, size, limit, user = row
        print(number, submitted, -1, ran, size, -1, -1, size, limit, -1, 1, user, user % 40, -1, 1, -1, -1, -1)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
