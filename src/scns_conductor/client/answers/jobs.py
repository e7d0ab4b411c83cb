"""作业、历史、作业步、为什么、试排。由 make openapi 写出，不要手改：改 core/models 或 api/answers。"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from scns_conductor.client.answer import Answer, Convert, instant, many_of, one_of


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Allocation(Answer):
    """分配：一个作业的一次尝试在一个节点上一行；代理认领之后才启动进程，只释放一次。"""

    restart_count: int
    """第几次尝试"""
    node_name: str
    """节点"""
    node_index: int
    """在作业节点里的序号（SLURM_NODEID），0 号运行脚本"""
    cpus: int
    """CPU 数"""
    memory: int
    """内存（MiB）"""
    gres: Mapping[str, int]
    """通用资源的数目，如 {'gpu:a100': 2}"""
    tasks: int
    """在这个节点上的任务数"""
    lent_cpus: int
    """因抢占而挂起时借出的 CPU 数；这时 cpus 是 0"""
    cpu_ids: tuple[int, ...] | None
    """绑定的核，由代理选定"""
    gres_ids: Mapping[str, list[int]] | None
    """通用资源的序号，由代理选定"""
    process_id: int | None
    """本节点上的进程号"""
    created_at: datetime
    """分配的时刻"""
    claimed_at: datetime | None
    """代理认领的时刻，认领之后才许启动"""
    released_at: datetime | None
    """释放的时刻"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "cpu_ids": tuple,
        "created_at": instant,
        "claimed_at": instant,
        "released_at": instant,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Job(Answer):
    """作业。数组在任务启动之前只有一行：array_remaining 是还没有启动的任务号。"""

    name: str
    """作业名，缺省 sbatch"""
    user_name: str
    """提交者，取自令牌"""
    account: str | None
    """账户"""
    partition: str
    """分区；可用逗号列出多个，先能启动的为准；缺省是缺省分区"""
    qos: str | None
    """服务质量"""
    reservation: str | None
    """预留；可用逗号列出几个，先写的先试"""
    wckey: str | None
    """工作负载标签"""
    argv: tuple[str, ...]
    """脚本的参数；只给本人与管理员"""
    environment: Mapping[str, str]
    """作业自己的环境变量；只给本人与管理员"""
    current_working_directory: str
    """工作目录，绝对路径；缺省是用户的家目录"""
    standard_input: str | None
    """标准输入的文件，缺省 /dev/null"""
    standard_output: str | None
    """标准输出的文件，可含 %j %x %u %N %A %a；缺省 slurm-%j.out"""
    standard_error: str | None
    """标准错误的文件；缺省与标准输出同一个"""
    open_mode: str | None
    """append 或 truncate；缺省首次截断、重新排队后追加"""
    umask: int | None
    """作业进程的 umask；文字是八进制，如 0022"""
    tasks: int
    """任务数（--ntasks）"""
    tasks_per_node: int | None
    """每节点任务数（--ntasks-per-node）"""
    cpus_per_task: int
    """每任务 CPU 数"""
    minimum_nodes: int
    """至少几个节点"""
    maximum_nodes: int | None
    """至多几个节点"""
    minimum_cpus_per_node: int | None
    """节点至少要有的 CPU 数（--mincpus）"""
    memory_per_node: int | None
    """每节点内存（MiB）；0 表示整个节点的内存"""
    memory_per_cpu: int | None
    """每 CPU 内存（MiB）"""
    memory_per_gpu: int | None
    """每 GPU 内存（MiB）"""
    temporary_disk_per_node: int | None
    """节点至少要有的临时磁盘（MiB）"""
    tres_per_job: str | None
    """整个作业的通用资源，如 gres/gpu:8（--gpus）"""
    tres_per_node: str | None
    """每节点的通用资源，如 gres/gpu:a100:2（--gres）"""
    tres_per_task: str | None
    """每任务的通用资源（--gpus-per-task）"""
    constraints: str | None
    """节点特性的表达式，如 a100&nvme（--constraint）"""
    required_nodes: str | None
    """必须包含的节点（--nodelist）"""
    excluded_nodes: str | None
    """不得使用的节点（--exclude）"""
    exclusive: bool
    """独占节点"""
    exclusive_to: str | None
    """节点上只许谁的作业：user 同一个用户的，mcs 同一个标签的（--exclusive=user、mcs）"""
    mcs_label: str | None
    """多类别安全的标签（--mcs-label）"""
    oversubscribe: bool
    """允许与别的作业共享 CPU（--oversubscribe）"""
    contiguous: bool
    """几个节点要挨着（--contiguous）"""
    spread_job: bool
    """摊开到尽量多的节点，任务分得平均（--spread-job）"""
    use_min_nodes: bool
    """节点数写成一段的取最少的；缺省此刻有几个用几个（--use-min-nodes）"""
    sockets_per_node: int | None
    """节点至少要有的插槽数（--sockets-per-node）"""
    cores_per_socket: int | None
    """节点每插槽至少要有的核数（--cores-per-socket）"""
    threads_per_core: int | None
    """节点每核至少要有的线程数，一个核也只用这么多（--threads-per-core；1 是 --hint=nomultithread）"""
    tasks_per_core: int | None
    """一个核至多几个任务（--ntasks-per-core）"""
    tasks_per_socket: int | None
    """一个插槽至多几个任务（--ntasks-per-socket）"""
    core_specification: int | None
    """每节点留给系统的核数，作业用不到，独占节点（--core-spec）"""
    thread_specification: int | None
    """每节点留给系统的线程数，作业用不到，独占节点（--thread-spec）"""
    prefer: str | None
    """最好有的特性，没有这样的节点时照 constraints（--prefer）"""
    no_kill: bool
    """有节点坏了也不结束作业（--no-kill）"""
    container: str | None
    """在哪个 OCI bundle 的容器里运行，绝对路径（--container）"""
    container_image: str | None
    """在哪个镜像的容器里运行（--container-image）"""
    licenses: str | None
    """许可证，如 matlab:2,ansys"""
    required_switches: int | None
    """最多跨几个交换机（--switches）"""
    maximum_switch_wait_time: int | None
    """为上一项至多等多久（秒），之后跨几个都行；缺省与上限是 SCNS_MAX_SWITCH_WAIT_S"""
    distribution: str | None
    """任务的分布方式（--distribution）"""
    time_limit: int | None
    """时限（秒）；空表示不限"""
    time_minimum: int | None
    """可接受的最短时限（秒，--time-min）"""
    begin_time: datetime | None
    """最早何时开始（--begin）"""
    deadline: datetime | None
    """最迟何时结束（--deadline）"""
    dependency: str | None
    """依赖，如 afterok:12:13,singleton"""
    kill_on_invalid_dependency: bool | None
    """依赖不可能满足时是否取消"""
    hold: str | None
    """保留：user、admin，或启动失败之后的 launch_failed、重新排队时要的 special_exit；空表示未保留"""
    priority: int | None
    """管理员指定的优先级，0 等于保留；空表示由系统计算"""
    nice: int
    """降低优先级的量；负数要管理员"""
    requeue: bool
    """节点故障或被抢占后能否重新排队"""
    kill_warning_signal: str | None
    """时限将到时先发的信号（--signal）"""
    kill_warning_delay: int | None
    """提前多久发上述信号（秒）"""
    kill_warning_batch_only: bool
    """上述信号只发给批处理脚本（B:）"""
    comment: str | None
    """用户的备注"""
    admin_comment: str | None
    """管理员的备注"""
    extra: str | None
    """用户附加的任意文字"""
    mail_type: str | None
    """何时发邮件"""
    mail_user: str | None
    """发给谁"""
    array: str | None
    """作业数组，如 0-99:3%5"""
    interactive: bool
    """没有批处理脚本的分配（salloc、独立的 srun）"""
    data_source: str
    """来源：API、CLI、WEB"""
    submit_host: str | None
    """从哪台机器提交"""
    command: str | None
    """脚本在提交者那里的路径（squeue %o），只是记录"""
    job_id: str
    """作业号"""
    script: str | None
    """用户的整份脚本；只给本人与管理员"""
    array_job_id: str | None
    """所属数组的作业号；不是数组则为空"""
    array_task_id: int | None
    """数组任务号；数组行自身为空"""
    array_remaining: str | None
    """数组行里还没有启动的任务号，如 3-9,12"""
    array_base: int
    """序号为 0 的任务号"""
    array_step: int
    """任务号的步长；1 时序号就是任务号，0 是步长不一"""
    array_max_tasks: int | None
    """数组同时运行的上限（%）；空或 0 表示不限"""
    het_job_id: str | None
    """所属异构作业的号（第 0 个部分的作业号）；不是异构作业则为空"""
    het_job_offset: int
    """是异构作业的第几个部分"""
    het_job_id_set: str | None
    """异构作业各个部分的作业号，如 7-9"""
    cron: str | None
    """是 crontab 里的一项提交的：它的时刻；别的为空"""
    state: str
    """状态"""
    reason: str
    """Slurm 的原因码"""
    error_msg: str | None
    """给用户看的说明"""
    restart_count: int
    """重新排队的次数，即第几次尝试"""
    revision: int
    """用户每次修改加一；调度器提交时核对，不会按旧的要求启动"""
    submit_time: datetime
    """提交时刻"""
    eligible_time: datetime | None
    """何时具备运行条件"""
    start_time: datetime | None
    """分配资源的时刻"""
    end_time: datetime | None
    """真正结束的时刻"""
    suspend_time: datetime | None
    """最近一次挂起的时刻"""
    suspended_s: float
    """累计挂起的时长（秒）"""
    expected_start_time: datetime | None
    """计划里的开始时刻"""
    expected_nodes: str | None
    """计划里用到的节点，压缩写法"""
    wait_breakdown: Any
    """等待花在各个原因上多久（秒）；None 是等调度的那一会儿"""
    reason_since: datetime | None
    """现在的原因从何时起"""
    exit_status: int | None
    """退出码（0–255）"""
    exit_signal: int | None
    """致死的信号，没有则为 0"""
    derived_exit_status: int | None
    """各作业步退出码的最大值"""
    configuring: bool
    """分到了节点，还在等它们开机（CONFIGURING）"""
    node_list: str | None
    """分到的节点，压缩写法"""
    batch_host: str | None
    """运行脚本的节点"""
    allocated_nodes: int
    """分到的节点数"""
    allocated_cpus: int
    """分到的 CPU 数"""
    allocated_memory: int
    """分到的内存（MiB）"""
    allocated_gres: str | None
    """分到的通用资源，如 gpu:a100=2"""
    process_id: int | None
    """批处理脚本的进程号"""
    requested_partitions: str | None
    """列了几个分区、在其中一个里启动的：原来列的，重新排队时恢复"""
    requested_reservation: str | None
    """列了几个预留、被 MAGNETIC 吸进来的，启动时才定下用哪个：原来写的，没有写是空的文字；重新排队时恢复"""
    start_priority: float | None
    """启动时的优先级，同一个 QOS 里的抢占看它；只有算优先级又抢占的系统才写"""
    requested_end_state: str | None
    """有人要求它结束：CANCELLED、PREEMPTED、DEADLINE 或 PENDING（重新排队）；进程退出时生效"""
    requested_end_reason: str | None
    """上述要求的说明"""
    requested_end_actor: str | None
    """上述要求是谁提的"""
    requested_end_grace: int | None
    """上述要求给的宽限（秒）；空表示按 KillWait"""
    cpu_user_s: float | None
    """用户态 CPU 时间（秒）"""
    cpu_system_s: float | None
    """内核态 CPU 时间（秒）"""
    max_rss_kb: int | None
    """内存峰值（KiB）"""
    read_bytes: int | None
    """读的数据（字节）"""
    written_bytes: int | None
    """写的数据（字节）"""
    gpu_s: float | None
    """各块 GPU 忙的时间合计（秒）；没有、不知道是 null"""
    max_gpu_memory_mb: int | None
    """显存的峰值，各块合计（MiB）"""
    gpu_energy_j: float | None
    """各块 GPU 的能耗合计（焦耳）；合用的卡是整块的"""
    exit_code: str | None
    """退出码:信号，如 0:0；没有结束是 null"""
    allocations: tuple[Allocation, ...]
    """各次尝试在各节点上的分配；列表里没有"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "argv": tuple,
        "begin_time": instant,
        "deadline": instant,
        "submit_time": instant,
        "eligible_time": instant,
        "start_time": instant,
        "end_time": instant,
        "suspend_time": instant,
        "expected_start_time": instant,
        "reason_since": instant,
        "allocations": many_of(Allocation),
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class JobEvent(Answer):
    """作业的历史：每次状态变化一行，只增不改。"""

    event_id: int
    """事件的号，越晚越大"""
    restart_count: int
    """第几次尝试"""
    event_time: datetime
    """何时"""
    from_state: str | None
    """原状态；提交时为空"""
    to_state: str
    """新状态；没有变化的事件（如修改）与原状态相同"""
    cause: str
    """英文事件码：submit、start、exit、cancel、hold、release、requeue、update、node_fail……"""
    actor: str
    """谁做的：用户名，或 scheduler、agent@节点"""
    message: str | None
    """中文说明"""

    _convert: ClassVar[Mapping[str, Convert]] = {"event_time": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class SampleSeries(Answer):
    """用量随时间的变化：等长的几格。"""

    since: datetime
    """第一格从何时起：作业开始的时刻"""
    width_s: float
    """一格多长（秒）"""
    elapsed_s: float
    """采样到了开始之后多久（秒）；最后一格可以不满"""
    cpus: tuple[float, ...]
    """各格里平均用了几个 CPU"""
    memory_mb: tuple[int | None, ...]
    """各格里内存的峰值（MiB；没有采到是 null）"""
    gpus: tuple[float, ...] | None
    """各格里平均忙着几块 GPU；没有 GPU、不知道是 null"""
    gpu_memory_mb: tuple[int | None, ...] | None
    """各格里显存的峰值（MiB；没有 GPU、不知道是 null）"""
    gpu_energy_j: float | None
    """各块 GPU 至今的能耗合计（焦耳；不知道是 null）"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "since": instant,
        "cpus": tuple,
        "memory_mb": tuple,
        "gpus": tuple,
        "gpu_memory_mb": tuple,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class NodeSamples(Answer):
    """一个节点上的。"""

    since: datetime
    """第一格从何时起：作业开始的时刻"""
    width_s: float
    """一格多长（秒）"""
    elapsed_s: float
    """采样到了开始之后多久（秒）；最后一格可以不满"""
    cpus: tuple[float, ...]
    """各格里平均用了几个 CPU"""
    memory_mb: tuple[int | None, ...]
    """各格里内存的峰值（MiB；没有采到是 null）"""
    gpus: tuple[float, ...] | None
    """各格里平均忙着几块 GPU；没有 GPU、不知道是 null"""
    gpu_memory_mb: tuple[int | None, ...] | None
    """各格里显存的峰值（MiB；没有 GPU、不知道是 null）"""
    gpu_energy_j: float | None
    """各块 GPU 至今的能耗合计（焦耳；不知道是 null）"""
    node_name: str
    """节点"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "since": instant,
        "cpus": tuple,
        "memory_mb": tuple,
        "gpus": tuple,
        "gpu_memory_mb": tuple,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class JobSamples(Answer):
    """一个作业的用量随时间怎样变化。"""

    job_id: str
    """作业号"""
    restart_count: int
    """第几次尝试"""
    running: bool
    """这次尝试还在运行"""
    total: SampleSeries | None
    """各节点合在一起的；没有采到是 null"""
    nodes: tuple[NodeSamples, ...]
    """各节点的"""

    _convert: ClassVar[Mapping[str, Convert]] = {"total": one_of(SampleSeries), "nodes": many_of(NodeSamples)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class JobStep(Answer):
    """作业步（srun）：在作业的分配里启动的一组任务。作业的 batch 与 extern 不在这里，由作业的行推出。"""

    job_id: str
    """作业号"""
    restart_count: int
    """作业的第几次尝试"""
    step_id: int
    """作业步号，从 0 起"""
    name: str
    """名字，缺省是程序名"""
    state: str
    """状态"""
    tasks: int
    """任务数"""
    cpus_per_task: int
    """每任务 CPU 数"""
    nodes: tuple[str, ...]
    """用到的节点，按作业里的次序"""
    node_tasks: tuple[int, ...]
    """各节点上的任务数"""
    node_cpus: tuple[int, ...]
    """各节点上占的 CPU 数；--overlap 的是 0"""
    pending_nodes: tuple[str, ...]
    """还没有报结束的节点"""
    node_shares: Mapping[str, Any]
    """各节点上独占的内存与通用资源，如 {'n1': {'memory': 512, 'gres': {'gpu': 1}, 'ids': {'gpu': [0]}}}"""
    start_time: datetime
    """开始"""
    end_time: datetime | None
    """全部节点都结束的时刻"""
    exit_status: int | None
    """各任务退出码的最大值"""
    exit_signal: int | None
    """致死的信号，没有则为 0"""
    cpu_user_s: float
    """用户态 CPU 时间（秒）"""
    cpu_system_s: float
    """内核态 CPU 时间（秒）"""
    max_rss_kb: int
    """一个节点上的内存峰值（KiB）"""
    step: str
    """作业号.作业步号"""
    layout: Mapping[str, list[int]]
    """各节点上的任务序号"""
    node_list: str
    """用到的节点，压缩写法"""
    time_limit: int | None
    """时限（秒）；null 是没有自己的时限"""
    reserved_ports: tuple[int, ...] | None
    """保留的通信端口；没有要的是 null"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "nodes": tuple,
        "node_tasks": tuple,
        "node_cpus": tuple,
        "pending_nodes": tuple,
        "start_time": instant,
        "end_time": instant,
        "reserved_ports": tuple,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Holder(Answer):
    """占着所缺的东西的运行中的作业。"""

    job_id: str
    """作业号"""
    user_name: str | None
    """谁的"""
    nodes: tuple[str, ...]
    """占着的节点"""
    amount: int
    """占着的数目（许可证、上限）"""
    expected_end_time: datetime | None
    """预计结束；不限时、挂起了是 null"""
    suspended: bool
    """挂起了"""
    suspended_by: str | None
    """谁挂起的"""

    _convert: ClassVar[Mapping[str, Convert]] = {"nodes": tuple, "expected_end_time": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Need(Answer):
    """缺资源的作业的一样资源。"""

    name: str
    """cpu、memory，或 GRES 的名字"""
    needed: int
    """要多少；内存的单位是 MiB"""
    free: int
    """空着多少：在一个节点上运行的是最接近的那个节点的，否则是合用的节点合计的"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Limit(Answer):
    """一个不够的许可证或上限。"""

    reason: str
    """Slurm 的原因码"""
    name: str
    """名字"""
    needed: int
    """要多少"""
    left: int
    """还剩多少"""
    total: int
    """总共多少"""
    free_at: datetime | None
    """预计何时够；许可证、说不准的是 null"""
    holders: tuple[Holder, ...]
    """谁占着"""

    _convert: ClassVar[Mapping[str, Convert]] = {"free_at": instant, "holders": many_of(Holder)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class TimeSlices(Answer):
    """与别的作业轮流用 CPU 的分区此刻的样子。"""

    partition: str
    """分区"""
    time_slice_s: float
    """时间片（秒）"""
    most: int
    """一个 CPU 至多分给几个作业"""
    next_turn_time: datetime | None
    """下一次何时换"""
    active: tuple[Holder, ...]
    """正在用的"""
    parked: tuple[Holder, ...]
    """停着等的"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "next_turn_time": instant,
        "active": many_of(Holder),
        "parked": many_of(Holder),
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Suggestion(Answer):
    """一个能更早开始的改法。"""

    text: str
    """怎样改，改了何时能开始"""
    summary: str
    """只说怎样改"""
    changes: Mapping[str, Any]
    """PATCH /jobs/{job_id} 的字段"""
    start_time: datetime | None
    """改了之后预计的开始"""
    expected_kind: str
    """latest：至迟；estimate：只是估计"""
    good_until: datetime | None
    """最晚何时改还能立即开始；null 是没有尽头，或不是立即开始"""

    _convert: ClassVar[Mapping[str, Convert]] = {"start_time": instant, "good_until": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Why(Answer):
    """作业为什么还没有开始；不在排队的只有 job_id、state、reason、text 与 wait_breakdown。"""

    reason: str
    """Slurm 的原因码"""
    text: str
    """给人看的说明"""
    expected_start_time: datetime | None
    """预计何时开始；说不准是 null"""
    expected_end_time: datetime | None
    """预计何时结束"""
    expected_kind: str | None
    """latest：至迟；estimate：只是估计"""
    probable_start_time: datetime | None
    """多半何时开始：照历史预测的运行时间；没有历史、不比预计的早是 null"""
    latest_start_time: datetime | None
    """赶不上期限的：最晚要何时开始"""
    nodes: tuple[str, ...]
    """预计用到的节点"""
    jobs_ahead: tuple[str, ...]
    """排在前面、与它争的作业号，至多 20 个"""
    jobs_ahead_count: int
    """排在前面、与它争的有几个"""
    waiting_for: tuple[Holder, ...]
    """在等哪些作业结束"""
    shortages: tuple[str, ...]
    """缺什么、缺多少"""
    resources: tuple[Need, ...]
    """缺资源的：各样要多少、空着多少"""
    reservations: tuple[Mapping[str, Any], ...]
    """碰到的预留：{name, start_time, end_time}"""
    limits: tuple[Limit, ...]
    """不够的许可证与上限"""
    time_slices: TimeSlices
    """轮流用 CPU 的才有"""
    preempts: tuple[str, ...]
    """会抢占哪些作业；抢不到的没有"""
    preempts_from: datetime | None
    """从何时起许抢占它们（它们要先运行满豁免的时间）"""
    resume_time: datetime | None
    """停着的作业大约何时接着走；说不准是 null"""
    suggestions: tuple[Suggestion, ...]
    """怎样能更早开始"""
    job_id: str
    """作业号，照问的写法"""
    state: str
    """状态"""
    wait_breakdown: Mapping[str, float] | None
    """不在排队的：等待花在各个原因上多久（秒），None 是等调度的那一会儿"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "expected_start_time": instant,
        "expected_end_time": instant,
        "probable_start_time": instant,
        "latest_start_time": instant,
        "nodes": tuple,
        "jobs_ahead": tuple,
        "waiting_for": many_of(Holder),
        "shortages": tuple,
        "resources": many_of(Need),
        "reservations": tuple,
        "limits": many_of(Limit),
        "time_slices": one_of(TimeSlices),
        "preempts": tuple,
        "preempts_from": instant,
        "resume_time": instant,
        "suggestions": many_of(Suggestion),
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Plan(Answer):
    """试排的结果：假如现在提交。"""

    start_time: datetime | None
    """何时开始；不能启动是 null"""
    nodes: tuple[str, ...]
    """在哪些节点上"""
    cpus: int
    """占几个 CPU；不能启动时没有"""
    reason: str
    """Slurm 的原因码"""
    text: str | None
    """给人看的说明；立即能开始的没有"""
    preempts: tuple[str, ...]
    """会抢占哪些作业"""
    endless: tuple[str, ...]
    """在等的没有尽头的作业（不限时的、挂起的）；因为它们说不准何时"""
    firm: bool
    """start_time 是至迟的时刻（否则只是估计）"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "start_time": instant,
        "nodes": tuple,
        "preempts": tuple,
        "endless": tuple,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class JobTimes(Answer):
    """各个时刻（ISO 8601，UTC）与时长。"""

    submit_time: str | None
    eligible_time: str | None
    start_time: str | None
    end_time: str | None
    elapsed_time: str
    """运行了多久，D-HH:MM:SS"""
    limit_time: str
    """时限，D-HH:MM:SS 或 UNLIMITED"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class JobLog(Answer):
    """结束时收集的输出尾部；没有结束、或不是自己的作业时是 null。"""

    stdout: str | None
    stderr: str | None


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class JobSummary(Answer):
    """其余的概要。"""

    job_name: str
    user: str
    partition: str
    allocated_cpus: int
    allocated_nodes: int
    node_list: str | None
    exit_code: str | None
    """退出码:信号"""
    work_dir: str
    data_source: str
    account: str | None


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class JobAnswer(Answer):
    """查询的回答。"""

    job_id: str
    state: str
    error_msg: str | None
    time: JobTimes
    job_log: JobLog
    detail: JobSummary

    _convert: ClassVar[Mapping[str, Convert]] = {
        "time": one_of(JobTimes),
        "job_log": one_of(JobLog),
        "detail": one_of(JobSummary),
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class CancelAnswer(Answer):
    """取消的回答：state 是此刻的状态。"""

    job_id: str
    state: str
    message: str


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Acted(Answer):
    """控制的回答：state 是此刻的状态。"""

    job_id: str
    state: str


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class GraphJob(Answer):
    """依赖图里的一个作业；数组是一个。"""

    job_id: str
    """作业号"""
    name: str
    """名字"""
    user_name: str
    """用户"""
    state: str
    """状态"""
    level: int
    """离问的那个几层：它等的是负的，等它的是正的"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class DependencyGraph(Answer):
    """一个作业的依赖图。"""

    job_id: str
    """问的是哪个（数组任务是它的数组）"""
    jobs: tuple[GraphJob, ...]
    """图里的作业，至多 100 个"""
    edges: tuple[Mapping[str, str], ...]
    """{kind, from, to}：to 以 kind 等 from"""
    complete: bool
    """没有因为太多而少画"""

    _convert: ClassVar[Mapping[str, Convert]] = {"jobs": many_of(GraphJob), "edges": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class HistoryRefused(Answer):
    """没有收的一个。"""

    job_id: str
    """作业号"""
    reason: str
    """为什么"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class HistoryImported(Answer):
    """一批的结果。"""

    added: int
    """写进了几个"""
    present: int
    """从前就搬来了的几个"""
    refused: tuple[HistoryRefused, ...]
    """没有收的"""
    unknown_accounts: tuple[str, ...]
    """写进了的里，这里没有的账户：用量记下了，不在公平份额的树里"""

    _convert: ClassVar[Mapping[str, Convert]] = {"refused": many_of(HistoryRefused), "unknown_accounts": tuple}
