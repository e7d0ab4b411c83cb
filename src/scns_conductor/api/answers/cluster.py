"""节点、分区、预留、许可证、总览。"""

from datetime import datetime
from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, answer, field, page_of, row_of
from scns_conductor.core.models import Node, Partition, Reservation

NODE = row_of(
    Node,
    "Node",
    changed={"state": (str, "scontrol 的状态，如 IDLE、MIXED、ALLOCATED+DRAIN、DOWN")},
    added={
        "availability": field(str, "UP、DOWN、UNKNOWN"),
        "jobs": field(list[str], "其上的作业号"),
    },
)
NODES = page_of("Nodes", "nodes", NODE, "全部节点")
PARTITION = row_of(Partition, "Partition")
PARTITIONS = page_of("Partitions", "partitions", PARTITION, "全部分区")
RESERVATION = row_of(
    Reservation,
    "Reservation",
    added={
        "state": field(str, "INACTIVE（还没有开始）、ACTIVE 或 ENDED"),
        "node_list": field(str, "此刻的节点，压缩写法"),
    },
)
RESERVATIONS = page_of("Reservations", "reservations", RESERVATION, "全部预留")
LICENSE = answer(
    "License",
    "一种许可证。",
    {
        "name": field(str, "名字"),
        "total": field(int, "总共几个"),
        "used": field(int, "运行中的作业用着几个"),
        "free": field(int, "还剩几个"),
    },
)
LICENSES = page_of("Licenses", "licenses", LICENSE, "全集群的许可证")
DASHBOARD = answer(
    "Dashboard",
    "总览。",
    {
        "jobs": field(dict[str, Any], "by_state：各状态的作业数（数组按任务计）；running、pending：最近的几个"),
        "resources": field(dict[str, Any], "cpus、memory_mb、gres 各有 total 与 used；nodes 按状态计数"),
        "leader": field(dict[str, Any], "调度领导者：holder、epoch、renewed_at、alive、blocked"),
    },
)
CLUSTER_FIELD = answer(
    "ClusterField",
    "变了的一个字段。",
    {
        "name": field(str, "字段"),
        "before": field(Any, "原来的；新建的是 null"),
        "after": field(Any, "要变成的"),
    },
)
CLUSTER_CHANGE = answer(
    "ClusterChange",
    "一处改动。",
    {
        "action": field(str, "create、update、delete"),
        "section": field(str, "哪一节"),
        "name": field(str, "哪一个；关联是 账户/用户"),
        "place": field(str, "在文件的哪里，如 accounts[3]；删除的是那一节"),
        "fields": field(list[CLUSTER_FIELD], "变了的字段"),  # type: ignore[valid-type]
    },
)
CLUSTER_APPLIED = answer(
    "ClusterApplied",
    "照 cluster.yaml 改了（或要改）什么。",
    {
        "changes": field(list[CLUSTER_CHANGE], "改动，照执行的次序"),  # type: ignore[valid-type]
        "fingerprint": field(str, "这些改动的指纹，交给下一次的 expect"),
        "applied": field(bool, "改了没有；dry_run 是 false"),
    },
)
USAGE_ROW = answer(
    "UsageRow",
    "一个账户里一个用户在一个分区、一个 QOS 的一种大小的作业用掉的。",
    {
        "account": field(str | None, "账户"),
        "user_name": field(str, "用户"),
        "wckey": field(str | None, "工作负载标签"),
        "partition": field(str, "分区"),
        "qos": field(str | None, "QOS"),
        "job_cpus": field(int, "作业的 CPU 数"),
        "jobs": field(int, "其间结束的与还在运行的作业数"),
        "cpu_s": field(float, "CPU 数乘以时长（秒）"),
        "memory_mb_s": field(float, "内存（MiB）乘以秒"),
        "node_s": field(float, "节点数乘以时长（秒）"),
        "gpu_s": field(float, "GPU 数乘以时长（秒）"),
    },
)
CAPACITY = answer(
    "Capacity",
    "登记了的节点的总量。",
    {
        "cpus": field(int, "CPU 数"),
        "memory_mb": field(int, "内存（MiB）"),
        "nodes": field(int, "节点数"),
    },
)
USAGE = answer(
    "Usage",
    "一段时间的用量；每次尝试都算，挂起的不算，运行中的算到此刻。",
    {
        "since": field(datetime, "从何时起（整点）"),
        "until": field(datetime, "到何时为止（不含；整点，或此刻）"),
        "cluster": field(str, "集群的名字"),
        "usage": field(list[USAGE_ROW], "用量"),  # type: ignore[valid-type]
        "capacity": field(CAPACITY, "总量"),
    },
)

USAGE_SLOT = answer(
    "UsageSlot",
    "一格里一组用掉的；没有按它分的列不在其中。",
    {
        "start": field(datetime, "这一格从何时起"),
        **{
            name: field(str | None, text, always=False)
            for name, text in (
                ("account", "账户"),
                ("user", "用户"),
                ("partition", "分区"),
                ("qos", "QOS"),
                ("wckey", "工作负载标签"),
            )
        },
        "jobs": field(int, "其间结束的与还在运行的作业数"),
        "cpu_s": field(float, "CPU 数乘以时长（秒）"),
        "memory_mb_s": field(float, "内存（MiB）乘以秒"),
        "node_s": field(float, "节点数乘以时长（秒）"),
        "gpu_s": field(float, "GPU 数乘以时长（秒）"),
    },
)
USAGE_SERIES = answer(
    "UsageSeries",
    "一段时间的用量，一格一格的。",
    {
        "since": field(datetime, "从何时起（整点）"),
        "until": field(datetime, "到何时为止（不含；整点，或此刻）"),
        "every": field(str, "一格多长：hour、day、month"),
        "zone": field(str, "天、月按哪个时区"),
        "rows": field(list[USAGE_SLOT], "各格各组，从早到晚"),  # type: ignore[valid-type]
    },
)

NodeAnswer = Annotated[dict[str, Any], Shown(NODE)]
ClusterAppliedAnswer = Annotated[dict[str, Any], Shown(CLUSTER_APPLIED)]
NodesAnswer = Annotated[dict[str, Any], Shown(NODES)]
PartitionAnswer = Annotated[dict[str, Any], Shown(PARTITION)]
PartitionsAnswer = Annotated[dict[str, Any], Shown(PARTITIONS)]
ReservationAnswer = Annotated[dict[str, Any], Shown(RESERVATION)]
ReservationsAnswer = Annotated[dict[str, Any], Shown(RESERVATIONS)]
CAUSE = answer(
    "Cause",
    "压着利用率的一样；没有它会多用多少是真的重新计划过的。",
    {
        "cause": field(
            str,
            "drained_nodes、down_nodes、partition_down、reservation、limit、license、head_job、suspended_jobs、"
            "held_jobs、array_limit、no_backfill、many_reservations、fragmentation、memory",
        ),
        "text": field(str, "一句话"),
        "gain_cpu_hours": field(float, "没有它，这段时间里多用几个 CPU·小时"),
        "gain_node_hours": field(float, "同上，照平均的节点折成节点·小时"),
        "starts_now": field(int, "没有它，当场多启动几个作业"),
        "action": field(str | None, "照做的命令或设置；没有一条命令能改的是 null"),
        "nodes": field(list[str], "说到的节点"),
        "jobs": field(list[str], "说到的作业（至多五个）"),
    },
)
CLUSTER_WHY = answer(
    "ClusterWhy",
    "此刻什么压着利用率。",
    {
        "cpus": field(dict[str, int], "total；allocated 分配了的；idle 空着的；offline 停着的节点上的"),
        "nodes": field(int, "几个节点"),
        "horizon_s": field(float, "看今后多久（秒）"),
        "capacity_cpu_hours": field(float, "这段时间里全部 CPU·小时"),
        "busy_cpu_hours": field(float, "照现在的计划会用掉的；作业都跑满时限"),
        "waiting": field(dict[str, int], "排队的作业（数组的任务各算一个）各因为什么在等"),
        "wanted_cpu_hours": field(float, "排队的跑满时限要的，至多算到这段时间"),
        "causes": field(list[CAUSE], "从值得多的到少的"),  # type: ignore[valid-type]
        "best": field(int | None, "只改一样的话最值的是 causes 的第几个（从 0 起）；没有能照做的是 null"),
        "untried": field(int, "时间到了，还有几样没有试"),
        "incomplete": field(bool, "排队的太多，没有都算进去"),
        "text": field(str, "几句话，一句一行"),
    },
)
ClusterWhyAnswer = Annotated[dict[str, Any], Shown(CLUSTER_WHY)]
LicensesAnswer = Annotated[dict[str, Any], Shown(LICENSES)]
DashboardAnswer = Annotated[dict[str, Any], Shown(DASHBOARD)]
UsageAnswer = Annotated[dict[str, Any], Shown(USAGE)]
UsageSeriesAnswer = Annotated[dict[str, Any], Shown(USAGE_SERIES)]
