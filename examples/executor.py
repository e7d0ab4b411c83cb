#!/usr/bin/env python3
"""标准库 concurrent.futures 的接口：每个调用是一个作业，map 是一个作业数组；异常带着远处的调用栈。"""

from scns_conductor.client import ConductorExecutor


def inverse(n: int) -> float:
    print("算", n)
    return 1 / n


with ConductorExecutor(resources={"memory_per_node": "200M", "time_limit": "10"}) as executor:
    print(list(executor.map(inverse, [1, 2, 4], chunksize=2)))
    future = executor.submit(inverse, 0)
    print(type(future.exception()).__name__, future.output().strip())
