"""全部数据表。一个 SQLModel 类既是表，也是 Pydantic 模型。

时间一律 timestamptz，需要比较的都取数据库的时钟；内存单位 MiB，时长单位秒。
字段名沿用 Slurm（slurmrestd 的 job_desc_msg 与 job_info）。
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, INT4MULTIRANGE, JSONB
from sqlmodel import Field, SQLModel
from sqlmodel.sql.sqltypes import AutoString

from scns_conductor.core.states import JobState, NodeAvailability, PartitionState

NOW = sa.text("clock_timestamp()")
EMPTY_OBJECT = sa.text("'{}'::jsonb")
TIMESTAMP = sa.TIMESTAMP(timezone=True)
MAX_NAME_LENGTH = 255
# 新装的系统的分区（0001 建的）。
DEFAULT_PARTITION = "main"


def _one_of(column: str, words: type[JobState] | type[NodeAvailability] | type[PartitionState]) -> str:
    return f"{column} IN ({', '.join(repr(word.value) for word in words)})"


class JobSpec(SQLModel):
    """用户在提交时能要求的一切；Job 表与提交服务共用。"""

    name: str = Field(max_length=MAX_NAME_LENGTH, description="作业名")
    user_name: str = Field(max_length=MAX_NAME_LENGTH, description="提交者，取自令牌")
    account: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="账户")
    partition: str = Field(description="分区；可用逗号列出多个，先能启动的为准")
    qos: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="服务质量")
    reservation: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="预留的名字")
    wckey: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="工作负载标签")
    argv: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": sa.text("'{}'")},
        description="脚本的参数",
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="作业自己的环境变量",
    )
    current_working_directory: str = Field(description="工作目录，绝对路径")
    standard_input: str | None = Field(None, description="标准输入的文件，缺省 /dev/null")
    standard_output: str | None = Field(None, description="标准输出的文件，可含 %j 等；缺省 slurm-%j.out")
    standard_error: str | None = Field(None, description="标准错误的文件；缺省与标准输出同一个")
    open_mode: str | None = Field(None, description="append 或 truncate；缺省首次截断、重新排队后追加")
    umask: int | None = Field(None, description="作业进程的 umask")

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
    constraints: str | None = Field(None, description="节点特性的表达式（--constraint）")
    required_nodes: str | None = Field(None, description="必须包含的节点（--nodelist）")
    excluded_nodes: str | None = Field(None, description="不得使用的节点（--exclude）")
    exclusive: bool = Field(False, sa_column_kwargs={"server_default": "false"}, description="独占节点")
    oversubscribe: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="允许与别的作业共享 CPU（--oversubscribe）"
    )
    licenses: str | None = Field(None, description="许可证，如 matlab:2,ansys")
    required_switches: int | None = Field(None, description="最多跨几个交换机（--switches）")
    maximum_switch_wait_time: int | None = Field(
        None, sa_type=sa.BigInteger, description="为上一项至多等多少秒，之后跨几个都行；空是缺省的时长"
    )
    distribution: str | None = Field(None, description="任务的分布方式（--distribution）")

    time_limit: int | None = Field(None, sa_type=sa.BigInteger, description="时限（秒）；空表示不限")
    time_minimum: int | None = Field(None, sa_type=sa.BigInteger, description="可接受的最短时限（秒，--time-min）")
    begin_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="最早何时开始")
    deadline: datetime | None = Field(None, sa_type=TIMESTAMP, description="最迟何时结束")
    dependency: str | None = Field(None, description="依赖，如 afterok:12:13,singleton")
    kill_on_invalid_dependency: bool | None = Field(None, description="依赖不可能满足时是否取消")
    hold: str | None = Field(None, description="保留：user、admin，或启动失败之后的 launch_failed；空表示未保留")
    priority: int | None = Field(None, sa_type=sa.BigInteger, description="管理员指定的优先级；空表示由系统计算")
    nice: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="降低优先级的量")
    requeue: bool = Field(
        True, sa_column_kwargs={"server_default": "true"}, description="节点故障或被抢占后能否重新排队"
    )
    kill_warning_signal: str | None = Field(None, description="时限将到时先发的信号（--signal）")
    kill_warning_delay: int | None = Field(None, description="提前多少秒发上述信号")
    kill_warning_batch_only: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="上述信号只发给批处理脚本（B:）"
    )
    comment: str | None = Field(None, description="用户的备注")
    admin_comment: str | None = Field(None, description="管理员的备注")
    extra: str | None = Field(None, description="用户附加的任意文字")
    mail_type: str | None = Field(None, description="何时发邮件")
    mail_user: str | None = Field(None, description="发给谁")
    array: str | None = Field(None, description="作业数组，如 0-99:3%5")
    interactive: bool = Field(
        False, sa_column_kwargs={"server_default": "false"}, description="没有批处理脚本的分配（salloc、独立的 srun）"
    )
    data_source: str = Field("API", sa_column_kwargs={"server_default": "API"}, description="来源：API、CLI、WEB")
    submit_host: str | None = Field(None, description="从哪台机器提交")
    command: str | None = Field(None, description="脚本在提交者那里的路径（squeue %o），只是记录")


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
    array_step: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="任务号的步长；1 时序号就是任务号")
    array_max_tasks: int | None = Field(None, description="数组同时运行的上限（%）；空或 0 表示不限")

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
    suspended_s: float = Field(0, sa_column_kwargs={"server_default": "0"}, description="累计挂起的秒数")
    expected_start_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="计划里的开始时刻")
    exit_status: int | None = Field(None, description="退出码（0–255）")
    exit_signal: int | None = Field(None, description="致死的信号，没有则为 0")
    derived_exit_status: int | None = Field(None, description="各作业步退出码的最大值")

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
    requested_end_state: str | None = Field(
        None, description="有人要求它结束：CANCELLED、PREEMPTED、DEADLINE 或 PENDING（重新排队）；进程退出时生效"
    )
    requested_end_reason: str | None = Field(None, description="上述要求的说明")
    requested_end_actor: str | None = Field(None, description="上述要求是谁提的")
    requested_end_grace: int | None = Field(None, description="上述要求给的宽限（秒）；空表示按 KillWait")

    cpu_user_s: float | None = Field(None, description="用户态 CPU 秒")
    cpu_system_s: float | None = Field(None, description="内核态 CPU 秒")
    max_rss_kb: int | None = Field(None, sa_type=sa.BigInteger, description="内存峰值（KiB）")
    read_bytes: int | None = Field(None, sa_type=sa.BigInteger, description="读的字节数")
    written_bytes: int | None = Field(None, sa_type=sa.BigInteger, description="写的字节数")

    __table_args__ = (
        sa.CheckConstraint(_one_of("state", JobState), name="jobs_state_known"),
        sa.CheckConstraint("tasks >= 1 AND cpus_per_task >= 1 AND minimum_nodes >= 1", name="jobs_size_positive"),
        sa.CheckConstraint("time_limit IS NULL OR time_limit > 0", name="jobs_time_limit_positive"),
        sa.CheckConstraint("data_source IN ('API', 'CLI', 'WEB')", name="jobs_data_source_known"),
        sa.CheckConstraint("length(script) > 0", name="jobs_script_not_blank"),
        # 结束的作业再多，这两个部分索引也只有排队与运行的那些行。
        sa.Index("jobs_pending", "submit_time", "job_id", postgresql_where=sa.text("state = 'PENDING'")),
        sa.Index("jobs_active", "job_id", postgresql_where=sa.text("state IN ('RUNNING', 'SUSPENDED')")),
        sa.Index("jobs_by_state", "state", sa.text("job_id DESC")),
        sa.Index("jobs_by_user", "user_name", sa.text("job_id DESC")),
        sa.Index("jobs_by_account", "account", sa.text("job_id DESC"), postgresql_where=sa.text("account IS NOT NULL")),
        sa.Index("jobs_by_name", "name", sa.text("job_id DESC")),
        # 缺省的分区、没有 QOS 的作业占多数，本来就不必靠索引找；它们也就不付写入的代价。
        sa.Index(
            "jobs_by_partition",
            "partition",
            sa.text("job_id DESC"),
            postgresql_where=sa.text(f"partition <> '{DEFAULT_PARTITION}'"),
        ),
        sa.Index("jobs_by_qos", "qos", sa.text("job_id DESC"), postgresql_where=sa.text("qos IS NOT NULL")),
        sa.Index(
            "jobs_by_array", "array_job_id", "array_task_id", postgresql_where=sa.text("array_job_id IS NOT NULL")
        ),
        sa.Index("jobs_by_submit_time", "submit_time", "job_id"),
        sa.Index("jobs_by_end_time", "end_time", "job_id", postgresql_where=sa.text("end_time IS NOT NULL")),
    )


class ResourceAllocation(SQLModel, table=True):
    """分配：一个作业的一次尝试在一个节点上一行；代理认领之后才启动进程，只释放一次。"""

    __tablename__ = "resource_allocations"

    allocation_id: int | None = Field(None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True))
    job_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
        description="作业号",
    )
    restart_count: int = Field(0, description="第几次尝试")
    node_name: str = Field(description="节点")
    node_index: int = Field(0, description="在作业节点里的序号（SLURM_NODEID），0 号运行脚本")
    cpus: int = Field(description="CPU 数")
    memory: int = Field(0, sa_type=sa.BigInteger, description="内存（MiB）")
    gres: dict[str, int] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="通用资源的数目，如 {'gpu:a100': 2}",
    )
    tasks: int = Field(1, description="在这个节点上的任务数")
    lent_cpus: int = Field(
        0, sa_column_kwargs={"server_default": "0"}, description="因抢占而挂起时借出的 CPU 数；这时 cpus 是 0"
    )
    cpu_ids: list[int] | None = Field(None, sa_type=ARRAY(sa.Integer), description="绑定的核，由代理选定")
    gres_ids: dict[str, list[int]] | None = Field(None, sa_type=JSONB, description="通用资源的序号，由代理选定")
    token_digest: bytes | None = Field(None, description="作业令牌的 SHA-256；令牌只在作业的环境里")
    process_id: int | None = Field(None, description="本节点上的进程号")
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}
    )
    claimed_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="代理认领的时刻，认领之后才许启动")
    released_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="释放的时刻")

    __table_args__ = (
        sa.UniqueConstraint("job_id", "restart_count", "node_name", name="resource_allocations_once"),
        sa.CheckConstraint("cpus >= 0 AND memory >= 0", name="resource_allocations_not_negative"),
        sa.CheckConstraint("lent_cpus >= 0", name="resource_allocations_lent"),
        sa.Index("resource_allocations_held", "node_name", "job_id", postgresql_where=sa.text("released_at IS NULL")),
        sa.Index("resource_allocations_by_node", "node_name", sa.text("job_id DESC")),
    )


class JobStep(SQLModel, table=True):
    """作业步（srun）：在作业的分配里启动的一组任务。作业的 batch 与 extern 不在这里，由作业的行推出。"""

    __tablename__ = "job_steps"

    job_id: int = Field(
        sa_column=sa.Column(
            sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        description="作业号",
    )
    restart_count: int = Field(sa_column=sa.Column(sa.Integer, primary_key=True), description="作业的第几次尝试")
    step_id: int = Field(sa_column=sa.Column(sa.Integer, primary_key=True), description="作业步号，从 0 起")
    name: str = Field(max_length=MAX_NAME_LENGTH, description="名字，缺省是程序名")
    state: str = Field(JobState.RUNNING, sa_column_kwargs={"server_default": "RUNNING"}, description="状态")
    tasks: int = Field(description="任务数")
    cpus_per_task: int = Field(description="每任务 CPU 数")
    nodes: list[str] = Field(sa_type=ARRAY(sa.Text), description="用到的节点，按作业里的次序")
    node_tasks: list[int] = Field(sa_type=ARRAY(sa.Integer), description="各节点上的任务数")
    node_cpus: list[int] = Field(sa_type=ARRAY(sa.Integer), description="各节点上占的 CPU 数；--overlap 的是 0")
    pending_nodes: list[str] = Field(sa_type=ARRAY(sa.Text), description="还没有报结束的节点")
    node_shares: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT, "nullable": False},
        description="各节点上独占的内存与通用资源，如 {'n1': {'memory': 512, 'gres': {'gpu': 1}, 'ids': {'gpu': [0]}}}",
    )
    samples: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT, "nullable": False},
        description="各节点上最近一次采样的用量；结束之后以结束时的为准",
    )
    launch: dict[str, Any] = Field(sa_type=JSONB, description="给节点的启动说明；没有连上的可以再送一遍")
    start_time: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="开始"
    )
    end_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="全部节点都结束的时刻")
    exit_status: int | None = Field(None, description="各任务退出码的最大值")
    exit_signal: int | None = Field(None, description="致死的信号，没有则为 0")
    cpu_user_s: float = Field(0, sa_column_kwargs={"server_default": "0"}, description="用户态 CPU 秒")
    cpu_system_s: float = Field(0, sa_column_kwargs={"server_default": "0"}, description="内核态 CPU 秒")
    max_rss_kb: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="一个节点上的内存峰值（KiB）"
    )

    __table_args__ = (
        sa.CheckConstraint(_one_of("state", JobState), name="job_steps_state_known"),
        sa.CheckConstraint(
            "cardinality(nodes) = cardinality(node_tasks) AND cardinality(nodes) = cardinality(node_cpus)",
            name="job_steps_nodes_match",
        ),
    )


class Node(SQLModel, table=True):
    """节点：资源、已分配的计数（由 CHECK 保证不超）、状态、心跳。"""

    __tablename__ = "nodes"

    name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="节点名")
    address: str = Field(description="连到它用的地址")
    cpus: int = Field(description="CPU 数")
    memory: int = Field(sa_type=sa.BigInteger, description="内存（MiB）")
    temporary_disk: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="临时磁盘（MiB）"
    )
    gres: dict[str, int] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="通用资源，如 {'gpu:a100': 4}",
    )
    features: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": sa.text("'{}'")},
        description="特性",
    )
    weight: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="权重")
    topology: str | None = Field(None, description="所在的交换机路径")
    allocated_cpus: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="已分配 CPU 数")
    allocated_memory: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="已分配内存（MiB）"
    )
    allocated_gres: dict[str, int] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="已分配的通用资源",
    )
    state: str = Field(NodeAvailability.UNKNOWN, description="UP、DOWN、UNKNOWN")
    drain: bool = Field(False, sa_column_kwargs={"server_default": sa.false()}, description="排空：不再接新作业")
    reason: str | None = Field(None, description="排空或下线的原因")
    reason_user: str | None = Field(None, description="谁写的原因")
    reason_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时写的原因")
    last_heartbeat: datetime | None = Field(None, sa_type=TIMESTAMP, description="最近一次心跳")
    beat: int = Field(
        0,
        sa_type=sa.BigInteger,
        sa_column_kwargs={"server_default": "0"},
        description="第几次登记或心跳；节点记得它，变小了就是数据库退回到了从前",
    )
    registered_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="代理最近一次登记的时刻")
    boot_id: str | None = Field(None, description="内核的 boot_id，变了就是重启过")
    boot_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="开机时刻")
    agent_version: str | None = Field(None, description="代理的版本")
    architecture: str | None = Field(None, description="uname -m")
    operating_system: str | None = Field(None, description="操作系统与内核")
    cpu_load: float | None = Field(None, description="1 分钟平均负载")
    free_memory: int | None = Field(None, sa_type=sa.BigInteger, description="空闲内存（MiB）")
    containment: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="哪些约束真正生效",
    )

    __table_args__ = (
        sa.CheckConstraint(_one_of("state", NodeAvailability), name="nodes_state_known"),
        sa.CheckConstraint("allocated_cpus BETWEEN 0 AND cpus", name="nodes_cpus_within"),
        sa.CheckConstraint("allocated_memory BETWEEN 0 AND memory", name="nodes_memory_within"),
        sa.CheckConstraint("scns_gres_within(allocated_gres, gres)", name="nodes_gres_within"),
        # 节点行更新极频繁（每次分配、每次心跳）：留出空间，让更新都是 HOT。
        {"postgresql_with": {"fillfactor": "50"}},
    )


class Partition(SQLModel, table=True):
    """分区（scontrol(1) show partition 的字段）。"""

    __tablename__ = "partitions"

    name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="分区名")
    nodes: str = Field("ALL", sa_column_kwargs={"server_default": "ALL"}, description="节点列表，ALL 表示全部")
    is_default: bool = Field(False, sa_column_kwargs={"server_default": sa.false()}, description="是否缺省分区")
    state: str = Field(
        PartitionState.UP, sa_column_kwargs={"server_default": "UP"}, description="UP、DOWN、DRAIN、INACTIVE"
    )
    max_time: int | None = Field(None, sa_type=sa.BigInteger, description="时限的上限（秒）；空表示不限")
    default_time: int | None = Field(None, sa_type=sa.BigInteger, description="缺省时限（秒）")
    min_nodes: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="作业至少几个节点")
    max_nodes: int | None = Field(None, description="作业至多几个节点")
    max_cpus_per_node: int | None = Field(None, description="每节点至多用多少 CPU")
    max_memory_per_node: int | None = Field(None, sa_type=sa.BigInteger, description="每节点至多用多少内存（MiB）")
    default_memory_per_cpu: int | None = Field(None, sa_type=sa.BigInteger, description="每 CPU 缺省内存（MiB）")
    priority_tier: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="层级，大者先排，也用于抢占")
    priority_job_factor: int = Field(
        1, sa_column_kwargs={"server_default": "1"}, description="多因子优先级里的分区因子"
    )
    preempt_mode: str | None = Field(
        None, description="被抢占时怎么办：requeue、cancel、suspend、off；空表示按全局设置"
    )
    grace_time: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="被抢占时的宽限（秒）")
    allow_accounts: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="只许这些账户；空表示都许")
    deny_accounts: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="不许这些账户")
    allow_qos: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="只许这些 QOS；空表示都许")
    exclusive: bool = Field(False, sa_column_kwargs={"server_default": sa.false()}, description="整节点分配")

    __table_args__ = (
        sa.CheckConstraint(_one_of("state", PartitionState), name="partitions_state_known"),
        sa.Index("partitions_one_default", "is_default", unique=True, postgresql_where=sa.text("is_default")),
    )


class JobEvent(SQLModel, table=True):
    """作业的历史：每次状态变化一行，只增不改。"""

    __tablename__ = "job_events"

    event_id: int | None = Field(None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True))
    job_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False)
    )
    restart_count: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="第几次尝试")
    event_time: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}
    )
    from_state: str | None = Field(None, description="原状态；提交时为空")
    to_state: str = Field(description="新状态；没有变化的事件（如修改）与原状态相同")
    cause: str = Field(
        description="英文事件码：submit、start、exit、cancel、hold、release、requeue、update、node_fail……"
    )
    actor: str = Field(description="谁做的：用户名，或 scheduler、agent@节点")
    message: str | None = Field(None, description="中文说明")

    __table_args__ = (sa.Index("job_events_by_job", "job_id", "event_id"),)


class Reservation(SQLModel, table=True):
    """预留：一段时间里，一些节点与许可证只给列出的用户与账户；都没有列就谁也不给（维护）。

    重复的（标志 DAILY 等）写着第一次的时刻，以后的由它推出。
    """

    __tablename__ = "reservations"

    name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="名字")
    start_time: datetime = Field(sa_type=TIMESTAMP, description="开始")
    end_time: datetime = Field(sa_type=TIMESTAMP, description="结束")
    nodes: str = Field(description="节点列表；ALL 是全部，空的是不占节点")
    users: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": sa.text("'{}'")},
        description="许用的用户",
    )
    accounts: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": sa.text("'{}'")},
        description="许用的账户",
    )
    flags: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": sa.text("'{}'")},
        description="MAINT、IGNORE_JOBS、OVERLAP、DAILY、PART_NODES 等",
    )
    partition: str | None = Field(None, description="分区：节点取自它")
    licenses: str | None = Field(None, description="预留的许可证，如 matlab:2")
    created_by: str = Field(max_length=MAX_NAME_LENGTH, description="谁定的")
    comment: str | None = Field(None, description="备注")

    __table_args__ = (sa.CheckConstraint("end_time > start_time", name="reservations_not_empty"),)


class SchedulerInbox(SQLModel, table=True):
    """收件箱：凡是调度器必须知道的变化，都在同一个事务里写一行并 NOTIFY scns_inbox。"""

    __tablename__ = "scheduler_inbox"

    inbox_id: int | None = Field(None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True))
    kind: str = Field(description="jobs、ended、nodes、config 或请求：signal、suspend、resume、explain、read_log……")
    job_ids: list[int] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.BigInteger),
        sa_column_kwargs={"server_default": sa.text("'{}'")},
        description="变了的作业",
    )
    node_names: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": sa.text("'{}'")},
        description="变了的节点",
    )
    payload: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSONB, sa_column_kwargs={"server_default": EMPTY_OBJECT}, description="请求的内容"
    )
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}
    )


class RequestAnswer(SQLModel, table=True):
    """对请求的回答：经收件箱提出，由调度器或代理写下并 NOTIFY scns_answer；读过即删，过期清除。"""

    __tablename__ = "request_answers"

    request_id: str = Field(primary_key=True, max_length=64, description="请求号（UUID）")
    answer: dict[str, Any] = Field(sa_type=JSONB, sa_column_kwargs={"nullable": False}, description="回答的内容")
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}
    )


class JobOutput(SQLModel, table=True):
    """作业输出的尾部，结束时收进来；节点没了也还能看。"""

    __tablename__ = "job_outputs"

    job_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True)
    )
    restart_count: int = Field(primary_key=True, description="第几次尝试")
    stream: str = Field(primary_key=True, max_length=6, description="stdout 或 stderr")
    path: str | None = Field(None, description="文件的实际路径")
    content: bytes = Field(sa_type=sa.LargeBinary, description="尾部的内容")
    total_bytes: int = Field(sa_type=sa.BigInteger, description="文件的总长（字节）")

    __table_args__ = (sa.CheckConstraint("stream IN ('stdout', 'stderr')", name="job_outputs_stream_known"),)


class IdempotencyKey(SQLModel, table=True):
    """幂等键：同一用户的同一个键只产生一次作业。"""

    __tablename__ = "idempotency_keys"

    user_name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH)
    key: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH)
    request_hash: str = Field(description="请求内容的 SHA-256；同键不同内容是错误")
    job_ids: list[int] = Field(sa_type=ARRAY(sa.BigInteger), sa_column_kwargs={"nullable": False})
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}
    )


class SchedulerLeader(SQLModel, table=True):
    """领导者：只有一行。epoch 是栅栏，每次提交都要核对；被接管的旧领导者什么也改不了。"""

    __tablename__ = "scheduler_leader"

    singleton: bool = Field(True, primary_key=True)
    epoch: int = Field(0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="每次接管加一")
    holder: str | None = Field(None, description="谁：主机名:进程号")
    backend_pid: int | None = Field(None, description="持锁连接在 PostgreSQL 里的进程号")
    acquired_at: datetime | None = Field(None, sa_type=TIMESTAMP)
    renewed_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="租约最近一次续期")
    blocked: list[dict[str, Any]] = Field(
        default_factory=list,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": sa.text("'[]'::jsonb")},
        description="绕开了哪些被别的会话锁住的行，谁锁着",
    )

    __table_args__ = (sa.CheckConstraint("singleton", name="scheduler_leader_single"),)


class SystemIncarnation(SQLModel, table=True):
    """数据库的化身：只有一行，恢复到从前就换一个（见 statements.incarnation）。

    名字排在各张业务表之后：pg_restore 按名字装数据，读得到它，别的就已经装好。
    """

    __tablename__ = "system_incarnation"

    singleton: bool = Field(True, primary_key=True)
    incarnation: str = Field(description="随机的名字")
    since: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="从何时起"
    )
    reason: str = Field(description="为什么换：created、restore，或哪个节点发现的")

    __table_args__ = (sa.CheckConstraint("singleton", name="system_incarnation_single"),)


metadata = SQLModel.metadata
# PostgreSQL 里 text 与 varchar(n) 一样快；长度由模型与 API 校验，不放进列类型。
for _table in metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, AutoString):
            _column.type = sa.Text()
