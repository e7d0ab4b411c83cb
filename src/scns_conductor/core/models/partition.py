"""分区。"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import MAX_NAME_LENGTH, one_of
from scns_conductor.core.sharing import OVERSUBSCRIBE
from scns_conductor.core.states import PartitionState

# 新装的系统的分区（0001 建的）。
DEFAULT_PARTITION = "main"


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
    priority_tier: int = Field(
        1, ge=0, le=65533, sa_column_kwargs={"server_default": "1"}, description="层级，大者先排，也用于抢占"
    )
    priority_job_factor: int = Field(
        1, ge=0, le=65533, sa_column_kwargs={"server_default": "1"}, description="多因子优先级里的分区因子"
    )
    preempt_mode: str | None = Field(
        None, description="被抢占时怎么办：requeue、cancel、suspend、off；空表示按全局设置"
    )
    preempt_exempt_time: int | None = Field(
        None, ge=0, sa_type=sa.BigInteger, description="运行满多久才许被抢占（秒）；空表示按全局设置"
    )
    grace_time: int = Field(0, ge=0, sa_column_kwargs={"server_default": "0"}, description="被抢占时的宽限（秒）")
    allow_accounts: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="只许这些账户；空表示都许")
    deny_accounts: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="不许这些账户")
    allow_qos: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="只许这些 QOS；空表示都许")
    exclusive: bool = Field(False, sa_column_kwargs={"server_default": sa.false()}, description="整节点分配")
    oversubscribe: str = Field(
        "NO",
        sa_column_kwargs={"server_default": "NO"},
        description="作业轮流用 CPU：NO、FORCE:n（每个 CPU 至多 n 个）、YES:n（只有 -s 的）；要 SCNS_PREEMPT_GANG",
    )

    suspend_time: int | None = Field(
        None,
        ge=-1,
        sa_type=sa.BigInteger,
        description="空闲多久就关机（秒）；-1 是从不自动关，空表示按全局设置；几个分区都有的，以最长的为准",
    )
    suspend_timeout: int | None = Field(
        None, ge=0, sa_type=sa.BigInteger, description="关机要多久（秒）；空表示按全局设置"
    )
    resume_timeout: int | None = Field(
        None, ge=1, sa_type=sa.BigInteger, description="开机至多多久（秒）；空表示按全局设置"
    )

    __table_args__ = (
        sa.CheckConstraint(one_of("state", PartitionState), name="partitions_state_known"),
        sa.CheckConstraint(f"oversubscribe ~ '{OVERSUBSCRIBE}'", name="partitions_oversubscribe_known"),
        sa.Index("partitions_one_default", "is_default", unique=True, postgresql_where=sa.text("is_default")),
    )
