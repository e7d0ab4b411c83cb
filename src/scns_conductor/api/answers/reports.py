"""数组的进度、占用的历史、节点的简表。"""

from datetime import datetime
from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, answer, field, page_of

ARRAY = answer(
    "ArrayProgress",
    "一个数组的进度。",
    {
        "job_id": field(str, "数组的作业号"),
        "total": field(int, "全部任务数"),
        "done": field(int, "结束了的任务数"),
        "by_state": field(dict[str, int], "各状态的任务数"),
    },
)
ACCOUNT_SERIES = answer(
    "AccountSeries",
    "一个账户每一格平均占用多少。",
    {
        "account": field(str | None, "账户；没有账户的、合起来的是 null"),
        "others": field(int, "合起来的是几个账户", always=False),
        "cpus": field(list[float], "CPU 数"),
        "memory_mb": field(list[float], "内存（MiB）"),
        "gpus": field(list[float], "GPU 数"),
    },
)
WAITS = answer(
    "Waits",
    "这段时间里开始的作业等了多久。",
    {
        "started": field(int, "开始了几个"),
        "p50_s": field(float | None, "中位数（秒）；一个也没有是 null"),
        "p90_s": field(float | None, "九成不超过（秒）"),
        "p99_s": field(float | None, "99% 不超过（秒）"),
    },
)
UTILIZATION = answer(
    "Utilization",
    "占用的历史。",
    {
        "since": field(datetime, "从何时起"),
        "until": field(datetime, "到何时为止"),
        "bucket_s": field(float, "一格多长（秒）"),
        "accounts": field(list[ACCOUNT_SERIES], "用得最多的在前"),  # type: ignore[valid-type]
        "waits": field(WAITS, "等了多久"),
    },
)
NODE_MAP = answer(
    "NodeMap",
    "节点的简表。",
    {
        "fields": field(list[str], "一行里各个数是什么，依次"),
        "nodes": field(list[list[Any]], "各节点；内存的单位是 MiB，partitions 是逗号分隔的分区名"),
    },
)
NodeMapAnswer = Annotated[dict[str, Any], Shown(NODE_MAP)]
ArraysAnswer = Annotated[dict[str, Any], Shown(page_of("ArrayProgresses", "arrays", ARRAY, "各数组的进度"))]
UtilizationAnswer = Annotated[dict[str, Any], Shown(UTILIZATION)]
