"""作业：用户能要求的一切，与系统记下的。"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, INT4MULTIRANGE, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_LIST, EMPTY_OBJECT, MAX_NAME_LENGTH, NOW, TIMESTAMP, one_of
from scns_conductor.core.models.partition import DEFAULT_PARTITION
from scns_conductor.core.states import JobState


class JobSpec(SQLModel):
    """用户在提交时能要求的一切；Job 表与提交服务共用。"""

    name: str = Field(max_length=MAX_NAME_LENGTH, description="作业名，缺省 sbatch")
    user_name: str = Field(max_length=MAX_NAME_LENGTH, description="提交者，取自令牌")
    account: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="账户")
    partition: str = Field(description="分区；可用逗号列出多个，先能启动的为准；缺省是缺省分区")
    qos: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="服务质量")
    reservation: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="预留；可用逗号列出几个，先写的先试")
    wckey: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="工作负载标签")
    argv: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="脚本的参数",
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="作业自己的环境变量",
    )
    current_working_directory: str = Field(description="工作目录，绝对路径；缺省是用户的家目录")
    standard_input: str | None = Field(None, description="标准输入的文件，缺省 /dev/null")
    standard_output: str | None = Field(None, description="标准输出的文件，可含 %j %x %u %N %A %a；缺省 slurm-%j.out")
    standard_error: str | None = Field(None, description="标准错误的文件；缺省与标准输出同一个")
    open_mode: str | None = Field(None, description="append 或 truncate；缺省首次截断、重新排队后追加")
    umask: int | None = Field(None, description="作业进程的 umask；文字是八进制，如 0022")

    tasks: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="任务数（--ntasks）")
    tasks_per_node: int | None = Field(None, description="每节点任务数（--ntasks-per-node）")
    cpus_per_task: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="每任务 CPU 数")
    minimum_nodes: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="至少几个节点")
    maximum_nodes: int | None = Field(None, description="至多几个节点")
    minimum_cpus_per_node: int | None = Field(None, description="节点至少要有的 CPU 数（--mincpus）")
    memory_per_node: int | None = Field(None, description="每节点内存（MiB）；0 表示整个节点的内存")
    memory_per_cpu: int | None = Field(None, description="每 CPU 内存（MiB）")
    memory_per_gpu: int | None = Field(None, description="每 GPU 内存（MiB）")
    temporary_disk_per_node: int | None = Field(None, description="节点至少要有的临时磁盘（MiB）")
    tres_per_job: str | None = Field(None, description="整个作业的通用资源，如 gres/gpu:8（--gpus）")
    tres_per_node: str | None = Field(None, description="每节点的通用资源，如 gres/gpu:a100:2（--gres）")
    tres_per_task: str | None = Field(None, description="每任务的通用资源（--gpus-per-task）")
    constraints: str | None = Field(None, description="节点特性的表达式，如 a100&nvme（--constraint）")
    required_nodes: str | None = Field(None, description="必须包含的节点（--nodelist）")
    excluded_nodes: str | None = Field(None, description="不得使用的节点（--exclude）")
    exclusive: bool = Field(False, sa_column_kwargs={"server_default": "false"}, description="独占节点")
    exclusive_to: str | None = Field(
        None, description="节点上只许谁的作业：user 同一个用户的，mcs 同一个标签的（--exclusive=user、mcs）"
    )
    mcs_label: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="多类别安全的标签（--mcs-label）")
    oversubscribe: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="允许与别的作业共享 CPU（--oversubscribe）"
    )
    contiguous: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="几个节点要挨着（--contiguous）"
    )
    spread_job: bool = Field(
        False,
        sa_column_kwargs={"server_default": "false"},
        description="摊开到尽量多的节点，任务分得平均（--spread-job）",
    )
    use_min_nodes: bool = Field(
        False,
        sa_column_kwargs={"server_default": "false"},
        description="节点数写成一段的取最少的；缺省此刻有几个用几个（--use-min-nodes）",
    )
    sockets_per_node: int | None = Field(None, description="节点至少要有的插槽数（--sockets-per-node）")
    cores_per_socket: int | None = Field(None, description="节点每插槽至少要有的核数（--cores-per-socket）")
    threads_per_core: int | None = Field(
        None,
        description="节点每核至少要有的线程数，一个核也只用这么多（--threads-per-core；1 是 --hint=nomultithread）",
    )
    tasks_per_core: int | None = Field(None, description="一个核至多几个任务（--ntasks-per-core）")
    tasks_per_socket: int | None = Field(None, description="一个插槽至多几个任务（--ntasks-per-socket）")
    core_specification: int | None = Field(
        None, ge=0, description="每节点留给系统的核数，作业用不到，独占节点（--core-spec）"
    )
    thread_specification: int | None = Field(
        None, ge=0, description="每节点留给系统的线程数，作业用不到，独占节点（--thread-spec）"
    )
    prefer: str | None = Field(None, description="最好有的特性，没有这样的节点时照 constraints（--prefer）")
    no_kill: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="有节点坏了也不结束作业（--no-kill）"
    )
    container: str | None = Field(None, description="在哪个 OCI bundle 的容器里运行，绝对路径（--container）")
    container_image: str | None = Field(None, description="在哪个镜像的容器里运行（--container-image）")
    licenses: str | None = Field(None, description="许可证，如 matlab:2,ansys")
    required_switches: int | None = Field(None, description="最多跨几个交换机（--switches）")
    maximum_switch_wait_time: int | None = Field(
        None,
        sa_type=sa.BigInteger,
        ge=0,
        le=2**31 - 1,
        description="为上一项至多等多久（秒），之后跨几个都行；缺省与上限是 SCNS_MAX_SWITCH_WAIT_S",
    )
    distribution: str | None = Field(None, description="任务的分布方式（--distribution）")

    time_limit: int | None = Field(None, sa_type=sa.BigInteger, description="时限（秒）；空表示不限")
    time_minimum: int | None = Field(None, sa_type=sa.BigInteger, description="可接受的最短时限（秒，--time-min）")
    begin_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="最早何时开始（--begin）")
    deadline: datetime | None = Field(None, sa_type=TIMESTAMP, description="最迟何时结束（--deadline）")
    dependency: str | None = Field(None, description="依赖，如 afterok:12:13,singleton")
    kill_on_invalid_dependency: bool | None = Field(None, description="依赖不可能满足时是否取消")
    hold: str | None = Field(
        None, description="保留：user、admin，或启动失败之后的 launch_failed、重新排队时要的 special_exit；空表示未保留"
    )
    priority: int | None = Field(
        None, sa_type=sa.BigInteger, ge=0, le=2**32 - 1, description="管理员指定的优先级，0 等于保留；空表示由系统计算"
    )
    nice: int = Field(
        0,
        ge=-(2**31) + 3,
        le=2**31 - 3,
        sa_column_kwargs={"server_default": "0"},
        description="降低优先级的量；负数要管理员",
    )
    requeue: bool = Field(
        True, sa_column_kwargs={"server_default": "true"}, description="节点故障或被抢占后能否重新排队"
    )
    kill_warning_signal: str | None = Field(None, description="时限将到时先发的信号（--signal）")
    kill_warning_delay: int | None = Field(None, ge=0, le=65535, description="提前多久发上述信号（秒）")
    kill_warning_batch_only: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="上述信号只发给批处理脚本（B:）"
    )
    comment: str | None = Field(None, description="用户的备注")
    admin_comment: str | None = Field(None, description="管理员的备注")
    extra: str | None = Field(None, description="用户附加的任意文字")
    mail_type: str | None = Field(None, description="何时发邮件")
    mail_user: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="发给谁")
    array: str | None = Field(None, description="作业数组，如 0-99:3%5")
    interactive: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="没有批处理脚本的分配（salloc、独立的 srun）"
    )
    data_source: str = Field("API", sa_column_kwargs={"server_default": "API"}, description="来源：API、CLI、WEB")
    submit_host: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="从哪台机器提交")
    command: str | None = Field(None, description="脚本在提交者那里的路径（squeue %o），只是记录")


# 提交之后不能再改的（scontrol update 也不能）；新的字段缺省是可以改的。
FIXED_AT_SUBMIT = frozenset(
    {
        "argv", "array", "command", "container", "container_image", "core_specification", "current_working_directory",
        "data_source", "distribution", "environment", "exclusive_to", "interactive", "kill_on_invalid_dependency",
        "kill_warning_batch_only", "kill_warning_delay", "kill_warning_signal", "mcs_label", "open_mode",
        "standard_error", "standard_input", "standard_output", "submit_host", "temporary_disk_per_node",
        "thread_specification", "umask",
        "user_name",
    }
)  # fmt: skip


class Job(JobSpec, table=True):
    """作业。数组在任务启动之前只有一行：array_remaining 是还没有启动的任务号。"""

    __tablename__ = "jobs"

    job_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="作业号"
    )
    script: str | None = Field(None, sa_type=sa.Text, description="用户的整份脚本；数组任务沿用数组行的")
    array_job_id: int | None = Field(None, sa_type=sa.BigInteger, description="所属数组的作业号；不是数组则为空")
    array_task_id: int | None = Field(None, description="数组任务号；数组行自身为空")
    array_remaining: Any = Field(
        None, sa_type=INT4MULTIRANGE, nullable=True, description="数组行里还没有启动的任务的序号"
    )
    array_base: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="序号为 0 的任务号")
    array_step: int = Field(
        1, sa_column_kwargs={"server_default": "1"}, description="任务号的步长；1 时序号就是任务号，0 是步长不一"
    )
    array_listed: bytes | None = Field(
        None,
        sa_type=sa.LargeBinary,
        description="步长不一的数组的任务号，从小到大，int4 高位在前；只在数组自己的行里，array_step 是 0",
    )
    array_max_tasks: int | None = Field(None, description="数组同时运行的上限（%）；空或 0 表示不限")

    het_job_id: int | None = Field(
        None, sa_type=sa.BigInteger, description="所属异构作业的号（第 0 个部分的作业号）；不是异构作业则为空"
    )
    het_job_offset: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="是异构作业的第几个部分")
    het_job_id_set: str | None = Field(None, sa_type=sa.Text, description="异构作业各个部分的作业号，如 7-9")

    cron: str | None = Field(None, sa_type=sa.Text, description="是 crontab 里的一项提交的：它的时刻；别的为空")
    state: str = Field(JobState.PENDING, sa_column_kwargs={"server_default": "PENDING"}, description="状态")
    reason: str = Field("None", sa_column_kwargs={"server_default": "None"}, description="Slurm 的原因码")
    error_msg: str | None = Field(None, description="给用户看的说明")
    restart_count: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="重新排队的次数，即第几次尝试")
    revision: int = Field(
        0,
        sa_column_kwargs={"server_default": "0"},
        description="用户每次修改加一；调度器提交时核对，不会按旧的要求启动",
    )
    submit_time: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="提交时刻"
    )
    eligible_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时具备运行条件")
    start_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="分配资源的时刻")
    end_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="真正结束的时刻")
    suspend_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="最近一次挂起的时刻")
    suspended_s: float = Field(0, sa_column_kwargs={"server_default": "0"}, description="累计挂起的时长（秒）")
    expected_start_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="计划里的开始时刻")
    expected_nodes: str | None = Field(None, description="计划里用到的节点，压缩写法")
    wait_breakdown: Any = Field(
        None, sa_type=JSONB, nullable=True, description="等待花在各个原因上多久（秒）；None 是等调度的那一会儿"
    )
    reason_since: datetime | None = Field(None, sa_type=TIMESTAMP, description="现在的原因从何时起")
    exit_status: int | None = Field(None, description="退出码（0–255）")
    exit_signal: int | None = Field(None, description="致死的信号，没有则为 0")
    derived_exit_status: int | None = Field(None, description="各作业步退出码的最大值")

    configuring: bool = Field(
        False, sa_column_kwargs={"server_default": sa.false()}, description="分到了节点，还在等它们开机（CONFIGURING）"
    )
    node_list: str | None = Field(None, description="分到的节点，压缩写法")
    batch_host: str | None = Field(None, description="运行脚本的节点")
    allocated_nodes: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="分到的节点数")
    allocated_cpus: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="分到的 CPU 数")
    allocated_memory: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="分到的内存（MiB）"
    )
    allocated_gres: str | None = Field(None, description="分到的通用资源，如 gpu:a100=2")
    process_id: int | None = Field(None, description="批处理脚本的进程号")

    requested_partitions: str | None = Field(
        None, description="列了几个分区、在其中一个里启动的：原来列的，重新排队时恢复"
    )
    requested_reservation: str | None = Field(
        None,
        description="列了几个预留、被 MAGNETIC 吸进来的，启动时才定下用哪个："
        "原来写的，没有写是空的文字；重新排队时恢复",
    )
    start_priority: float | None = Field(
        None, description="启动时的优先级，同一个 QOS 里的抢占看它；只有算优先级又抢占的系统才写"
    )
    requested_end_state: str | None = Field(
        None, description="有人要求它结束：CANCELLED、PREEMPTED、DEADLINE 或 PENDING（重新排队）；进程退出时生效"
    )
    requested_end_reason: str | None = Field(None, description="上述要求的说明")
    requested_end_actor: str | None = Field(None, description="上述要求是谁提的")
    requested_end_grace: int | None = Field(None, description="上述要求给的宽限（秒）；空表示按 KillWait")

    cpu_user_s: float | None = Field(None, description="用户态 CPU 时间（秒）")
    cpu_system_s: float | None = Field(None, description="内核态 CPU 时间（秒）")
    max_rss_kb: int | None = Field(None, sa_type=sa.BigInteger, description="内存峰值（KiB）")
    read_bytes: int | None = Field(None, sa_type=sa.BigInteger, description="读的数据（字节）")
    written_bytes: int | None = Field(None, sa_type=sa.BigInteger, description="写的数据（字节）")
    gpu_s: float | None = Field(None, description="各块 GPU 忙的时间合计（秒）；没有、不知道是 null")
    max_gpu_memory_mb: int | None = Field(None, description="显存的峰值，各块合计（MiB）")
    gpu_energy_j: float | None = Field(None, description="各块 GPU 的能耗合计（焦耳）；合用的卡是整块的")

    __table_args__ = (
        sa.CheckConstraint(one_of("state", JobState), name="jobs_state_known"),
        sa.CheckConstraint("tasks >= 1 AND cpus_per_task >= 1 AND minimum_nodes >= 1", name="jobs_size_positive"),
        sa.CheckConstraint("time_limit IS NULL OR time_limit > 0", name="jobs_time_limit_positive"),
        sa.CheckConstraint("data_source IN ('API', 'CLI', 'WEB')", name="jobs_data_source_known"),
        sa.CheckConstraint("length(script) > 0", name="jobs_script_not_blank"),
        # 按一列找的，倒着走就是（列，作业号从大到小）：新的作业排在后面，满了的页不对半分（见 0042）。
        # 结束的作业再多，这两个部分索引也只有排队与运行的那些行。
        sa.Index("jobs_pending", "submit_time", "job_id", postgresql_where=sa.text("state = 'PENDING'")),
        sa.Index("jobs_active", "job_id", postgresql_where=sa.text("state IN ('RUNNING', 'SUSPENDED')")),
        sa.Index("jobs_configuring", "job_id", postgresql_where=sa.text("configuring")),
        sa.Index("jobs_by_state", sa.text("state DESC"), "job_id"),
        sa.Index("jobs_by_user", sa.text("user_name DESC"), "job_id"),
        sa.Index("jobs_by_account", sa.text("account DESC"), "job_id", postgresql_where=sa.text("account IS NOT NULL")),
        sa.Index("jobs_by_name", sa.text("name DESC"), "job_id"),
        # 缺省的分区、没有 QOS 的作业占多数，本来就不必靠索引找；它们也就不付写入的代价。
        sa.Index(
            "jobs_by_partition",
            sa.text("partition DESC"),
            "job_id",
            postgresql_where=sa.text(f"partition <> '{DEFAULT_PARTITION}'"),
        ),
        sa.Index("jobs_by_qos", sa.text("qos DESC"), "job_id", postgresql_where=sa.text("qos IS NOT NULL")),
        sa.Index(
            "jobs_by_array", "array_job_id", "array_task_id", postgresql_where=sa.text("array_job_id IS NOT NULL")
        ),
        sa.Index("jobs_by_het_job", "het_job_id", "het_job_offset", postgresql_where=sa.text("het_job_id IS NOT NULL")),
        sa.Index("jobs_by_submit_time", "submit_time", "job_id"),
        sa.Index("jobs_by_end_time", "end_time", "job_id", postgresql_where=sa.text("end_time IS NOT NULL")),
    )
