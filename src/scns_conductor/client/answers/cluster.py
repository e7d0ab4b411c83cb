"""节点、分区、预留、许可证、总览、用量、通知。由 make openapi 写出，不要手改：改 core/models 或 api/answers。"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from scns_conductor.client.answer import Answer, Convert, instant, many_of, one_of


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Node(Answer):
    """节点：资源、已分配的计数（由 CHECK 保证不超）、状态、心跳。"""

    name: str
    """节点名"""
    address: str
    """连到它用的地址"""
    cpus: int
    """CPU 数"""
    sockets: int
    """插槽数"""
    cores_per_socket: int
    """每插槽的核数"""
    threads_per_core: int
    """每核的线程数；CPU 按核算的节点也照实写"""
    memory: int
    """内存（MiB）"""
    temporary_disk: int
    """临时磁盘（MiB）"""
    gres: Mapping[str, int]
    """通用资源，如 {'gpu:a100': 4}"""
    features: tuple[str, ...]
    """特性"""
    weight: int
    """权重"""
    topology: str | None
    """所在的交换机路径"""
    pinned: Mapping[str, Any]
    """scns apply 写下的 features、weight、topology：代理重新登记时以它们为准"""
    allocated_cpus: int
    """已分配 CPU 数"""
    allocated_memory: int
    """已分配内存（MiB）"""
    allocated_gres: Mapping[str, int]
    """已分配的通用资源"""
    state: str
    """scontrol 的状态，如 IDLE、MIXED、ALLOCATED+DRAIN、DOWN"""
    drain: bool
    """排空：不再接新作业"""
    reason: str | None
    """排空或下线的原因"""
    reason_user: str | None
    """谁写的原因"""
    reason_time: datetime | None
    """何时写的原因"""
    last_heartbeat: datetime | None
    """最近一次心跳"""
    beat: int
    """第几次登记或心跳；节点记得它，变小了就是数据库退回到了从前"""
    registered_at: datetime | None
    """代理最近一次登记的时刻"""
    boot_id: str | None
    """内核的 boot_id，变了就是重启过"""
    boot_time: datetime | None
    """开机时刻"""
    agent_version: str | None
    """代理的版本"""
    architecture: str | None
    """uname -m"""
    operating_system: str | None
    """操作系统与内核"""
    cpu_load: float | None
    """1 分钟平均负载"""
    free_memory: int | None
    """空闲内存（MiB）"""
    spool_free: int | None
    """工作目录（spool）与脚本目录所在的盘还有多少（MiB），取少的"""
    containment: Mapping[str, Any]
    """哪些约束真正生效"""
    cloud: bool
    """预先声明的，要用时才有（State=CLOUD）"""
    power_state: str
    """电源：ON、OFF、POWERING_UP、POWERING_DOWN"""
    power_since: datetime | None
    """何时到的这个电源状态"""
    power_request: str | None
    """有人要它：UP 开机，DOWN 空了就关，ASAP 不接新作业、空了就关，FORCE 强行关"""
    power_called: datetime | None
    """最近一次何时为它运行 ResumeProgram 或 SuspendProgram"""
    power_done: datetime | None
    """那个程序何时成了；还没有是空的"""
    unasked_at: datetime | None
    """最近一次何时没有要它开机、自己来了"""
    power_error: str | None
    """最近一次 ResumeProgram 或 SuspendProgram 出的错"""
    boot_s: float | None
    """最近一次从要它开机到它登记用了多久（秒）"""
    boots: int
    """要它开机、开成了几次"""
    boot_total_s: float
    """各次开机一共用了多久（秒）"""
    off_s: float
    """一共关了多久（秒），不含此刻的这一次"""
    idle_since: datetime | None
    """从何时起空闲（只在节能时记）"""
    planned: bool
    """空着，计划里留给了排在前面的作业（PLANNED）"""
    reboot: str | None
    """重启：REQUESTED 等它空下来，ISSUED 已经在重启"""
    reboot_asap: bool
    """等着重启时不接新作业（reboot ASAP）"""
    reboot_next_state: str | None
    """重启回来之后：RESUME 恢复（撤掉排空），DOWN 下线"""
    reboot_reason: str | None
    """为什么重启"""
    reboot_since: datetime | None
    """何时要它重启；已经在重启的是何时开始的"""
    availability: str
    """UP、DOWN、UNKNOWN"""
    jobs: tuple[str, ...]
    """其上的作业号"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "features": tuple,
        "reason_time": instant,
        "last_heartbeat": instant,
        "registered_at": instant,
        "boot_time": instant,
        "power_since": instant,
        "power_called": instant,
        "power_done": instant,
        "unasked_at": instant,
        "idle_since": instant,
        "reboot_since": instant,
        "jobs": tuple,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Partition(Answer):
    """分区（scontrol(1) show partition 的字段）。"""

    name: str
    """分区名"""
    nodes: str
    """节点列表，ALL 表示全部"""
    is_default: bool
    """是否缺省分区"""
    state: str
    """UP、DOWN、DRAIN、INACTIVE"""
    max_time: int | None
    """时限的上限（秒）；空表示不限"""
    default_time: int | None
    """缺省时限（秒）"""
    min_nodes: int
    """作业至少几个节点"""
    max_nodes: int | None
    """作业至多几个节点"""
    max_cpus_per_node: int | None
    """每节点至多用多少 CPU"""
    max_memory_per_node: int | None
    """每节点至多用多少内存（MiB）"""
    default_memory_per_cpu: int | None
    """每 CPU 缺省内存（MiB）"""
    priority_tier: int
    """层级，大者先排，也用于抢占"""
    priority_job_factor: int
    """多因子优先级里的分区因子"""
    preempt_mode: str | None
    """被抢占时怎么办：requeue、cancel、suspend、off；空表示按全局设置"""
    preempt_exempt_time: int | None
    """运行满多久才许被抢占（秒）；空表示按全局设置"""
    grace_time: int
    """被抢占时的宽限（秒）"""
    allow_accounts: tuple[str, ...] | None
    """只许这些账户；空表示都许"""
    deny_accounts: tuple[str, ...] | None
    """不许这些账户"""
    allow_qos: tuple[str, ...] | None
    """只许这些 QOS；空表示都许"""
    exclusive: bool
    """整节点分配"""
    oversubscribe: str
    """作业轮流用 CPU：NO、FORCE:n（每个 CPU 至多 n 个）、YES:n（只有 -s 的）；要 SCNS_PREEMPT_GANG"""
    suspend_time: int | None
    """空闲多久就关机（秒）；-1 是从不自动关，空表示按全局设置；几个分区都有的，以最长的为准"""
    suspend_timeout: int | None
    """关机要多久（秒）；空表示按全局设置"""
    resume_timeout: int | None
    """开机至多多久（秒）；空表示按全局设置"""

    _convert: ClassVar[Mapping[str, Convert]] = {"allow_accounts": tuple, "deny_accounts": tuple, "allow_qos": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Reservation(Answer):
    """预留：一段时间里，一些节点与许可证只给列出的用户与账户；都没有列就谁也不给（维护）。

    重复的（标志 DAILY 等）写着第一次的时刻，以后的由它推出。
    """

    name: str
    """名字"""
    start_time: datetime
    """开始"""
    end_time: datetime
    """结束"""
    nodes: str
    """节点列表；ALL 是全部，空的是不占节点"""
    node_cpus: Mapping[str, int] | None
    """按核留的：节点 -> 留几个 CPU，其余的照常给别人；null 是整个节点"""
    users: tuple[str, ...]
    """许用的用户"""
    accounts: tuple[str, ...]
    """许用的账户"""
    groups: tuple[str, ...]
    """许用的组：里面的用户都许"""
    flags: tuple[str, ...]
    """MAINT、IGNORE_JOBS、OVERLAP、DAILY、PART_NODES、FLEX、MAGNETIC、USER_DELETE 等"""
    partition: str | None
    """分区：节点取自它"""
    licenses: str | None
    """预留的许可证，如 matlab:2"""
    created_by: str
    """谁定的"""
    comment: str | None
    """备注"""
    state: str
    """INACTIVE（还没有开始）、ACTIVE 或 ENDED"""
    node_list: str
    """此刻的节点，压缩写法"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "start_time": instant,
        "end_time": instant,
        "users": tuple,
        "accounts": tuple,
        "groups": tuple,
        "flags": tuple,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class License(Answer):
    """一种许可证。"""

    name: str
    """名字"""
    total: int
    """总共几个"""
    used: int
    """运行中的作业用着几个"""
    free: int
    """还剩几个"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Dashboard(Answer):
    """总览。"""

    jobs: Mapping[str, Any]
    """by_state：各状态的作业数（数组按任务计）；running、pending：最近的几个"""
    resources: Mapping[str, Any]
    """cpus、memory_mb、gres 各有 total 与 used；nodes 按状态计数"""
    leader: Mapping[str, Any]
    """调度领导者：holder、epoch、renewed_at、alive、blocked"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class UsageRow(Answer):
    """一个账户里一个用户在一个分区、一个 QOS 的一种大小的作业用掉的。"""

    account: str | None
    """账户"""
    user_name: str
    """用户"""
    wckey: str | None
    """工作负载标签"""
    partition: str
    """分区"""
    qos: str | None
    """QOS"""
    job_cpus: int
    """作业的 CPU 数"""
    jobs: int
    """其间结束的与还在运行的作业数"""
    cpu_s: float
    """CPU 数乘以时长（秒）"""
    memory_mb_s: float
    """内存（MiB）乘以秒"""
    node_s: float
    """节点数乘以时长（秒）"""
    gpu_s: float
    """GPU 数乘以时长（秒）"""
    energy_j: float
    """GPU 的能耗（焦耳）；量不到的算 0"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Capacity(Answer):
    """登记了的节点的总量。"""

    cpus: int
    """CPU 数"""
    memory_mb: int
    """内存（MiB）"""
    nodes: int
    """节点数"""
    gpus: int
    """GPU 数"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Usage(Answer):
    """一段时间的用量；每次尝试都算，挂起的不算，运行中的算到此刻。"""

    since: datetime
    """从何时起（整点）"""
    until: datetime
    """到何时为止（不含；整点，或此刻）"""
    usage: tuple[UsageRow, ...]
    """用量"""
    capacity: Capacity
    """总量"""
    cluster: str
    """集群的名字"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "since": instant,
        "until": instant,
        "usage": many_of(UsageRow),
        "capacity": one_of(Capacity),
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class UsageSlot(Answer):
    """一格里一组用掉的；没有按它分的列不在其中。"""

    start: datetime
    """这一格从何时起"""
    account: str | None
    """账户"""
    user: str | None
    """用户"""
    partition: str | None
    """分区"""
    qos: str | None
    """QOS"""
    wckey: str | None
    """工作负载标签"""
    jobs: int
    """其间结束的与还在运行的作业数"""
    cpu_s: float
    """CPU 数乘以时长（秒）"""
    memory_mb_s: float
    """内存（MiB）乘以秒"""
    node_s: float
    """节点数乘以时长（秒）"""
    gpu_s: float
    """GPU 数乘以时长（秒）"""
    energy_j: float
    """GPU 的能耗（焦耳）；量不到的算 0"""

    _convert: ClassVar[Mapping[str, Convert]] = {"start": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class UsageSeries(Answer):
    """一段时间的用量，一格一格的。"""

    since: datetime
    """从何时起（整点）"""
    until: datetime
    """到何时为止（不含；整点，或此刻）"""
    every: str
    """一格多长：hour、day、month"""
    zone: str
    """天、月按哪个时区"""
    rows: tuple[UsageSlot, ...]
    """各格各组，从早到晚"""

    _convert: ClassVar[Mapping[str, Convert]] = {"since": instant, "until": instant, "rows": many_of(UsageSlot)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class UserEfficiency(Answer):
    """一个用户在一个账户里要的与用掉的。"""

    account: str | None
    """账户"""
    user_name: str
    """用户"""
    jobs: int
    """结束了几个作业"""
    cpu_asked_s: float
    """占着的 CPU 时间（秒）"""
    cpu_used_s: float
    """用掉的 CPU 时间（秒）"""
    memory_asked_mb_s: float
    """占着的内存（MiB 秒）"""
    memory_used_mb_s: float
    """内存的峰值乘以时长（MiB 秒）"""
    limit_asked_s: float | None
    """写了的时限合计（秒）；都没有写是 null"""
    limit_used_s: float
    """写了时限的跑了多久（秒）"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Efficiency(Answer):
    """要的与用掉的。"""

    since: datetime
    """从何时起"""
    until: datetime
    """到何时为止"""
    users: tuple[UserEfficiency, ...]
    """白占的 CPU 多的在前，至多 1,000 行"""

    _convert: ClassVar[Mapping[str, Convert]] = {"since": instant, "until": instant, "users": many_of(UserEfficiency)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Notification(Answer):
    """一份要发、发过或发不出去的通知。"""

    notification_id: int
    """通知的号"""
    job_id: str
    """作业号；整个数组一份的是数组的作业号"""
    restart_count: int
    """第几次尝试；整个数组一份的是 0"""
    occasion: str
    """为什么发：BEGIN、END、FAIL、REQUEUE、TIME_LIMIT_80……"""
    recipients: str
    """发给谁，逗号分隔"""
    state: str
    """QUEUED 等着发，SENT 发了，DEAD 不再试"""
    attempts: int
    """试过几次"""
    error: str | None
    """最近一次为什么没有发出去"""
    created_at: datetime
    """何时定下"""
    next_try_at: datetime
    """下一次何时试"""
    sent_at: datetime | None
    """何时发出"""
    user_name: str
    """谁的作业"""

    _convert: ClassVar[Mapping[str, Convert]] = {"created_at": instant, "next_try_at": instant, "sent_at": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Cause(Answer):
    """压着利用率的一样；没有它会多用多少是真的重新计划过的。"""

    cause: str
    """drained_nodes、down_nodes、partition_down、reservation、limit、license、head_job、suspended_jobs、held_jobs、array_limit、no_backfill、many_reservations、fragmentation、memory"""
    text: str
    """一句话"""
    gain_cpu_hours: float
    """没有它，这段时间里多用几个 CPU·小时"""
    gain_node_hours: float
    """同上，照平均的节点折成节点·小时"""
    starts_now: int
    """没有它，当场多启动几个作业"""
    action: str | None
    """照做的命令或设置；没有一条命令能改的是 null"""
    nodes: tuple[str, ...]
    """说到的节点"""
    jobs: tuple[str, ...]
    """说到的作业（至多五个）"""

    _convert: ClassVar[Mapping[str, Convert]] = {"nodes": tuple, "jobs": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class ClusterWhy(Answer):
    """此刻什么压着利用率。"""

    cpus: Mapping[str, int]
    """total；allocated 分配了的；idle 空着的；offline 停着的节点上的"""
    nodes: int
    """几个节点"""
    horizon_s: float
    """看今后多久（秒）"""
    capacity_cpu_hours: float
    """这段时间里全部 CPU·小时"""
    busy_cpu_hours: float
    """照现在的计划会用掉的；作业都跑满时限"""
    waiting: Mapping[str, int]
    """排队的作业（数组的任务各算一个）各因为什么在等"""
    wanted_cpu_hours: float
    """排队的跑满时限要的，至多算到这段时间"""
    causes: tuple[Cause, ...]
    """从值得多的到少的"""
    best: int | None
    """只改一样的话最值的是 causes 的第几个（从 0 起）；没有能照做的是 null"""
    untried: int
    """时间到了，还有几样没有试"""
    incomplete: bool
    """排队的太多，没有都算进去"""
    text: str
    """几句话，一句一行"""

    _convert: ClassVar[Mapping[str, Convert]] = {"causes": many_of(Cause)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class ClusterField(Answer):
    """变了的一个字段。"""

    name: str
    """字段"""
    before: Any
    """原来的；新建的是 null"""
    after: Any
    """要变成的"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class ClusterChange(Answer):
    """一处改动。"""

    action: str
    """create、update、delete"""
    section: str
    """哪一节"""
    name: str
    """哪一个；关联是 账户/用户"""
    place: str
    """在文件的哪里，如 accounts[3]；删除的是那一节"""
    fields: tuple[ClusterField, ...]
    """变了的字段"""

    _convert: ClassVar[Mapping[str, Convert]] = {"fields": many_of(ClusterField)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class ClusterApplied(Answer):
    """照 cluster.yaml 改了（或要改）什么。"""

    changes: tuple[ClusterChange, ...]
    """改动，照执行的次序"""
    fingerprint: str
    """这些改动的指纹，交给下一次的 expect"""
    applied: bool
    """改了没有；dry_run 是 false"""

    _convert: ClassVar[Mapping[str, Convert]] = {"changes": many_of(ClusterChange)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class MonthArchived(Answer):
    """归档了的一个月。"""

    month: str
    """哪个月（UTC），如 2026-01"""
    folder: str
    """写在哪里：API 的机器上的目录"""
    jobs: int
    """几个作业"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class HistoryArchived(Answer):
    """一步归档的结果；done 为假的再来一次。"""

    moved: int
    """其间从平常的表移进历史的几个作业"""
    archived: MonthArchived | None
    """归档了的月份；这一步没有归档的是 null"""
    done: bool
    """够早的都归档了"""

    _convert: ClassVar[Mapping[str, Convert]] = {"archived": one_of(MonthArchived)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class HistoryLoaded(Answer):
    """装回了的。"""

    added: int
    """装回了几个作业；已经在的不算"""
