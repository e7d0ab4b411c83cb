"""数组的进度、占用的历史、要的与用掉的、节点的简表。"""

from typing import Annotated, Any, NotRequired, TypedDict

from scns_conductor.core.answers.writing import Moment


class ArrayProgress(TypedDict):
    """一个数组的进度。"""

    job_id: Annotated[str, "数组的作业号"]
    total: Annotated[int, "全部任务数"]
    done: Annotated[int, "结束了的任务数"]
    by_state: Annotated[dict[str, int], "各状态的任务数"]


class ArrayProgresses(TypedDict):
    """各数组的进度"""

    arrays: Annotated[list[ArrayProgress], "各数组的进度"]


class GraphJob(TypedDict):
    """依赖图里的一个作业；数组是一个。"""

    job_id: Annotated[str, "作业号"]
    name: Annotated[str, "名字"]
    user_name: Annotated[str, "用户"]
    state: Annotated[str, "状态"]
    level: Annotated[int, "离问的那个几层：它等的是负的，等它的是正的"]


class DependencyGraph(TypedDict):
    """一个作业的依赖图。"""

    job_id: Annotated[str, "问的是哪个（数组任务是它的数组）"]
    jobs: Annotated[list[GraphJob], "图里的作业，至多 100 个"]
    edges: Annotated[list[dict[str, str]], "{kind, from, to}：to 以 kind 等 from"]
    complete: Annotated[bool, "没有因为太多而少画"]


class AccountSeries(TypedDict):
    """一个账户（或用户、分区、QOS）每一格平均占用多少。"""

    account: Annotated[str | None, "账户；没有账户的、合起来的、不按账户分的是 null"]
    name: Annotated[str | None, "账户、用户、分区或 QOS；没有的、合起来的是 null"]
    others: NotRequired[Annotated[int, "合起来的是几个"]]
    cpus: Annotated[list[float], "CPU 数"]
    memory_mb: Annotated[list[float], "内存（MiB）"]
    gpus: Annotated[list[float], "GPU 数"]


class Waits(TypedDict):
    """这段时间里开始的作业等了多久。"""

    started: Annotated[int, "开始了几个"]
    p50_s: Annotated[float | None, "中位数（秒）；一个也没有是 null"]
    p90_s: Annotated[float | None, "九成不超过（秒）"]
    p99_s: Annotated[float | None, "99% 不超过（秒）"]


class Utilization(TypedDict):
    """占用的历史。"""

    since: Annotated[Moment, "从何时起"]
    until: Annotated[Moment, "到何时为止"]
    bucket_s: Annotated[float, "一格多长（秒）"]
    accounts: Annotated[list[AccountSeries], "用得最多的在前"]
    waits: Annotated[Waits, "等了多久"]


class UserEfficiency(TypedDict):
    """一个用户在一个账户里要的与用掉的。"""

    account: Annotated[str | None, "账户"]
    user_name: Annotated[str, "用户"]
    jobs: Annotated[int, "结束了几个作业"]
    cpu_asked_s: Annotated[float, "占着的 CPU 时间（秒）"]
    cpu_used_s: Annotated[float, "用掉的 CPU 时间（秒）"]
    memory_asked_mb_s: Annotated[float, "占着的内存（MiB 秒）"]
    memory_used_mb_s: Annotated[float, "内存的峰值乘以时长（MiB 秒）"]
    limit_asked_s: Annotated[float | None, "写了的时限合计（秒）；都没有写是 null"]
    limit_used_s: Annotated[float, "写了时限的跑了多久（秒）"]


class Efficiency(TypedDict):
    """要的与用掉的。"""

    since: Annotated[Moment, "从何时起"]
    until: Annotated[Moment, "到何时为止"]
    users: Annotated[list[UserEfficiency], "白占的 CPU 多的在前，至多 1,000 行"]


class NodeMap(TypedDict):
    """节点的简表。"""

    fields: Annotated[list[str], "一行里各个数是什么，依次"]
    nodes: Annotated[list[list[Any]], "各节点；内存的单位是 MiB，partitions 是逗号分隔的分区名"]
