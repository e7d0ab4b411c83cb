"""数组的进度、占用的历史、要的与用掉的、节点的简表。"""

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
GRAPH_JOB = answer(
    "GraphJob",
    "依赖图里的一个作业；数组是一个。",
    {
        "job_id": field(str, "作业号"),
        "name": field(str, "名字"),
        "user_name": field(str, "用户"),
        "state": field(str, "状态"),
        "level": field(int, "离问的那个几层：它等的是负的，等它的是正的"),
    },
)
DEPENDENCY_GRAPH = answer(
    "DependencyGraph",
    "一个作业的依赖图。",
    {
        "job_id": field(str, "问的是哪个（数组任务是它的数组）"),
        "jobs": field(list[GRAPH_JOB], "图里的作业，至多 100 个"),  # type: ignore[valid-type]
        "edges": field(list[dict[str, str]], "{kind, from, to}：to 以 kind 等 from"),
        "complete": field(bool, "没有因为太多而少画"),
    },
)
ACCOUNT_SERIES = answer(
    "AccountSeries",
    "一个账户（或用户、分区、QOS）每一格平均占用多少。",
    {
        "account": field(str | None, "账户；没有账户的、合起来的、不按账户分的是 null"),
        "name": field(str | None, "账户、用户、分区或 QOS；没有的、合起来的是 null"),
        "others": field(int, "合起来的是几个", always=False),
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
USER_EFFICIENCY = answer(
    "UserEfficiency",
    "一个用户在一个账户里要的与用掉的。",
    {
        "account": field(str | None, "账户"),
        "user_name": field(str, "用户"),
        "jobs": field(int, "结束了几个作业"),
        "cpu_asked_s": field(float, "占着的 CPU 时间（秒）"),
        "cpu_used_s": field(float, "用掉的 CPU 时间（秒）"),
        "memory_asked_mb_s": field(float, "占着的内存（MiB 秒）"),
        "memory_used_mb_s": field(float, "内存的峰值乘以时长（MiB 秒）"),
        "limit_asked_s": field(float | None, "写了的时限合计（秒）；都没有写是 null"),
        "limit_used_s": field(float, "写了时限的跑了多久（秒）"),
    },
)
EFFICIENCY = answer(
    "Efficiency",
    "要的与用掉的。",
    {
        "since": field(datetime, "从何时起"),
        "until": field(datetime, "到何时为止"),
        "users": field(list[USER_EFFICIENCY], "白占的 CPU 多的在前，至多 1,000 行"),  # type: ignore[valid-type]
    },
)
EfficiencyAnswer = Annotated[dict[str, Any], Shown(EFFICIENCY)]
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
DependencyGraphAnswer = Annotated[dict[str, Any], Shown(DEPENDENCY_GRAPH)]
