"""作业留下的：分配、历史、输出的尾部。"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_OBJECT, NOW, TIMESTAMP


class ResourceAllocation(SQLModel, table=True):
    """分配：一个作业的一次尝试在一个节点上一行；代理认领之后才启动进程，只释放一次。"""

    __tablename__ = "resource_allocations"

    allocation_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="分配的号"
    )
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
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="分配的时刻"
    )
    claimed_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="代理认领的时刻，认领之后才许启动")
    released_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="释放的时刻")
    relay_chain: int | None = Field(
        None,
        sa_type=sa.BigInteger,
        description="接力的链：同一条链上没有释放的共用一份资源，节点计数里只算一份，号小的先用",
    )

    __table_args__ = (
        sa.UniqueConstraint("job_id", "restart_count", "node_name", name="resource_allocations_once"),
        sa.CheckConstraint("cpus >= 0 AND memory >= 0", name="resource_allocations_not_negative"),
        sa.CheckConstraint("lent_cpus >= 0", name="resource_allocations_lent"),
        sa.Index("resource_allocations_held", "node_name", "job_id", postgresql_where=sa.text("released_at IS NULL")),
        sa.Index("resource_allocations_by_node", sa.text("node_name DESC"), "job_id"),
    )


class JobEvent(SQLModel, table=True):
    """作业的历史：每次状态变化一行，只增不改。"""

    __tablename__ = "job_events"

    event_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="事件的号，越晚越大"
    )
    job_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
        description="作业号",
    )
    restart_count: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="第几次尝试")
    event_time: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )
    from_state: str | None = Field(None, description="原状态；提交时为空")
    to_state: str = Field(description="新状态；没有变化的事件（如修改）与原状态相同")
    cause: str = Field(
        description="英文事件码：submit、start、exit、cancel、hold、release、requeue、update、node_fail……"
    )
    actor: str = Field(description="谁做的：用户名，或 scheduler、agent@节点")
    message: str | None = Field(None, description="中文说明")

    __table_args__ = (sa.Index("job_events_by_job", "job_id", "event_id"),)


class JobOutput(SQLModel, table=True):
    """作业输出的尾部，结束时收进来；节点没了也还能看。"""

    __tablename__ = "job_outputs"

    job_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
        description="作业号",
    )
    restart_count: int = Field(primary_key=True, description="第几次尝试")
    stream: str = Field(primary_key=True, max_length=6, description="stdout 或 stderr")
    path: str | None = Field(None, description="文件的实际路径")
    content: bytes = Field(sa_type=sa.LargeBinary, description="尾部的内容")
    total_bytes: int = Field(sa_type=sa.BigInteger, description="文件的总长（字节）")

    __table_args__ = (sa.CheckConstraint("stream IN ('stdout', 'stderr')", name="job_outputs_stream_known"),)


# 给人看的列：令牌的摘要与只在里面用的号除外。
ALLOCATION_COLUMNS = tuple(
    name
    for name in ResourceAllocation.model_fields
    if name not in ("allocation_id", "job_id", "token_digest", "relay_chain")
)
EVENT_COLUMNS = tuple(name for name in JobEvent.model_fields if name != "job_id")
