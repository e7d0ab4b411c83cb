#!/usr/bin/env python3
"""@job：函数变成作业，依赖靠传 Future。"""

from scns_conductor import client as conductor


@conductor.job(cpus=1, memory="200M", time_limit="10m")
def count(text: str) -> int:
    return len(text.split())


@conductor.job(memory="200M", time_limit="10m")
def total(counts: list[int]) -> int:
    return sum(counts)


print(count("在 本地 跑"))
print(total.submit([count.submit(text) for text in ("一 二", "三 四 五")]).result(timeout=120))
