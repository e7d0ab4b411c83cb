"""许可证、总览、用量、利用率、照 cluster.yaml 的改动。"""

from typing import Annotated, Any, NotRequired, TypedDict

from scns_conductor.core.answers.health import Block
from scns_conductor.core.answers.writing import PLAIN, Moment


class License(TypedDict):
    """一种许可证。"""

    name: Annotated[str, "名字"]
    total: Annotated[int, "总共几个"]
    used: Annotated[int, "运行中的作业用着几个"]
    free: Annotated[int, "还剩几个"]


class Licenses(TypedDict):
    """全集群的许可证"""

    licenses: Annotated[list[License], "全集群的许可证"]


class NodeEvent(TypedDict):
    """节点出过的一件事。"""

    event_id: Annotated[int, "编号，越晚越大"]
    created_at: Annotated[Moment, "何时"]
    event: Annotated[str, "up 上线、down 下线、draining 开始排空、drained 排空了、resumed 不再排空"]
    reason: Annotated[str | None, "那时的原因"]
    reason_user: Annotated[str | None, "谁写的原因"]


class NodeEvents(TypedDict):
    """一个节点出过的事"""

    events: Annotated[list[NodeEvent], "新的在前，留三十天"]


class ChangedSetting(TypedDict):
    """运行时改过的一项设置。"""

    value: Any
    changed_by: str
    changed_at: Moment


class Used(TypedDict):
    """一样资源的总量与用量。"""

    total: int
    used: int


class NodeCounts(TypedDict):
    """节点按状态计数。"""

    total: int
    by_state: dict[str, int]


class Resources(TypedDict):
    """资源总量与用量；不可用的节点不计入总量。"""

    cpus: Used
    memory_mb: Used
    gres: dict[str, Used]
    nodes: NodeCounts


class LeaderShown(TypedDict):
    """调度领导者：谁、第几任、是否还在续租。"""

    holder: str | None
    epoch: int
    renewed_at: Moment | None
    alive: bool
    blocked: list[Block]


class LatestJobs(TypedDict):
    """各状态的作业数，与最近的几个作业（各是几列）。"""

    by_state: dict[str, int]
    running: list[dict[str, Any]]
    pending: list[dict[str, Any]]


class Dashboard(TypedDict):
    """总览。"""

    jobs: Annotated[LatestJobs, "by_state：各状态的作业数（数组按任务计）；running、pending：最近的几个", PLAIN]
    resources: Annotated[Resources, "cpus、memory_mb、gres 各有 total 与 used；nodes 按状态计数", PLAIN]
    leader: Annotated[LeaderShown, "调度领导者：holder、epoch、renewed_at、alive、blocked", PLAIN]


class ClusterField(TypedDict):
    """变了的一个字段。"""

    name: Annotated[str, "字段"]
    before: Annotated[Any, "原来的；新建的是 null"]
    after: Annotated[Any, "要变成的"]


class ClusterChange(TypedDict):
    """一处改动。"""

    action: Annotated[str, "create、update、delete"]
    section: Annotated[str, "哪一节"]
    name: Annotated[str, "哪一个；关联是 账户/用户"]
    place: Annotated[str, "在文件的哪里，如 accounts[3]；删除的是那一节"]
    fields: Annotated[list[ClusterField], "变了的字段"]


class ClusterApplied(TypedDict):
    """照 cluster.yaml 改了（或要改）什么。"""

    changes: Annotated[list[ClusterChange], "改动，照执行的次序"]
    fingerprint: Annotated[str, "这些改动的指纹，交给下一次的 expect"]
    applied: Annotated[bool, "改了没有；dry_run 是 false"]


class UsageRow(TypedDict):
    """一个账户里一个用户在一个分区、一个 QOS 的一种大小的作业用掉的。"""

    account: Annotated[str | None, "账户"]
    user_name: Annotated[str, "用户"]
    wckey: Annotated[str | None, "工作负载标签"]
    partition: Annotated[str, "分区"]
    qos: Annotated[str | None, "QOS"]
    job_cpus: Annotated[int, "作业的 CPU 数"]
    jobs: Annotated[int, "其间结束的与还在运行的作业数"]
    cpu_s: Annotated[float, "CPU 数乘以时长（秒）"]
    memory_mb_s: Annotated[float, "内存（MiB）乘以秒"]
    node_s: Annotated[float, "节点数乘以时长（秒）"]
    gpu_s: Annotated[float, "GPU 数乘以时长（秒）"]
    energy_j: Annotated[float, "GPU 的能耗（焦耳）；量不到的算 0"]


class Capacity(TypedDict):
    """登记了的节点的总量。"""

    cpus: Annotated[int, "CPU 数"]
    memory_mb: Annotated[int, "内存（MiB）"]
    nodes: Annotated[int, "节点数"]
    gpus: Annotated[int, "GPU 数"]


class MeasuredUsage(TypedDict):
    """一段时间的用量；每次尝试都算，挂起的不算，运行中的算到此刻。"""

    since: Annotated[Moment, "从何时起（整点）"]
    until: Annotated[Moment, "到何时为止（不含；整点，或此刻）"]
    usage: Annotated[list[UsageRow], "用量"]
    capacity: Annotated[Capacity, "总量"]


class Usage(MeasuredUsage):
    """一段时间的用量；每次尝试都算，挂起的不算，运行中的算到此刻。"""

    cluster: Annotated[str, "集群的名字"]


class UsageSlot(TypedDict):
    """一格里一组用掉的；没有按它分的列不在其中。"""

    start: Annotated[Moment, "这一格从何时起"]
    account: NotRequired[Annotated[str | None, "账户"]]
    user: NotRequired[Annotated[str | None, "用户"]]
    partition: NotRequired[Annotated[str | None, "分区"]]
    qos: NotRequired[Annotated[str | None, "QOS"]]
    wckey: NotRequired[Annotated[str | None, "工作负载标签"]]
    jobs: Annotated[int, "其间结束的与还在运行的作业数"]
    cpu_s: Annotated[float, "CPU 数乘以时长（秒）"]
    memory_mb_s: Annotated[float, "内存（MiB）乘以秒"]
    node_s: Annotated[float, "节点数乘以时长（秒）"]
    gpu_s: Annotated[float, "GPU 数乘以时长（秒）"]
    energy_j: Annotated[float, "GPU 的能耗（焦耳）；量不到的算 0"]


class UsageSeries(TypedDict):
    """一段时间的用量，一格一格的。"""

    since: Annotated[Moment, "从何时起（整点）"]
    until: Annotated[Moment, "到何时为止（不含；整点，或此刻）"]
    every: Annotated[str, "一格多长：hour、day、month"]
    zone: Annotated[str, "天、月按哪个时区"]
    rows: Annotated[list[UsageSlot], "各格各组，从早到晚"]


class Cause(TypedDict):
    """压着利用率的一样；没有它会多用多少是真的重新计划过的。"""

    cause: Annotated[
        str,
        "drained_nodes、down_nodes、partition_down、reservation、limit、license、head_job、suspended_jobs、held_jobs、array_limit、no_backfill、many_reservations、fragmentation、memory",
    ]
    text: Annotated[str, "一句话"]
    gain_cpu_hours: Annotated[float, "没有它，这段时间里多用几个 CPU·小时"]
    gain_node_hours: Annotated[float, "同上，照平均的节点折成节点·小时"]
    starts_now: Annotated[int, "没有它，当场多启动几个作业"]
    action: Annotated[str | None, "照做的命令或设置；没有一条命令能改的是 null"]
    nodes: Annotated[list[str], "说到的节点"]
    jobs: Annotated[list[str], "说到的作业（至多五个）"]


class ClusterWhy(TypedDict):
    """此刻什么压着利用率。"""

    cpus: Annotated[dict[str, int], "total；allocated 分配了的；idle 空着的；offline 停着的节点上的"]
    nodes: Annotated[int, "几个节点"]
    horizon_s: Annotated[float, "看今后多久（秒）"]
    capacity_cpu_hours: Annotated[float, "这段时间里全部 CPU·小时"]
    busy_cpu_hours: Annotated[float, "照现在的计划会用掉的；作业都跑满时限"]
    waiting: Annotated[dict[str, int], "排队的作业（数组的任务各算一个）各因为什么在等"]
    wanted_cpu_hours: Annotated[float, "排队的跑满时限要的，至多算到这段时间"]
    causes: Annotated[list[Cause], "从值得多的到少的"]
    best: Annotated[int | None, "只改一样的话最值的是 causes 的第几个（从 0 起）；没有能照做的是 null"]
    untried: Annotated[int, "时间到了，还有几样没有试"]
    incomplete: Annotated[bool, "排队的太多，没有都算进去"]
    text: Annotated[str, "几句话，一句一行"]
