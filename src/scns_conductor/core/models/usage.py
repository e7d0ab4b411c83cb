"""用量的汇总：每小时、每天、每月，按谁在哪里用的。

一次尝试结束时触发器记下（UsageDue），随后加进汇总并删掉，在一个事务里：不漏也不重。还没有加进去的、
还在运行的由读的一方现算，所以读到的总是准的。
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_OBJECT, TIMESTAMP, one_of
from scns_conductor.core.usage_periods import Period

_ZERO = {"server_default": "0"}


def _sum(description: str) -> Any:
    # numeric：加多少次也不差一微秒。
    return Field(Decimal(0), sa_type=sa.Numeric, sa_column_kwargs=_ZERO, description=description)


def _name(description: str) -> Any:
    return Field(
        "", primary_key=True, sa_type=sa.Text, sa_column_kwargs={"server_default": ""}, description=description
    )


class UsageRollup(SQLModel, table=True):
    """一格里一个账户里的一个用户，在一个分区、一个 QOS、一种大小的作业用掉的；挂起的不算，每次尝试都算。"""

    __tablename__ = "usage_rollups"

    period: str = Field(primary_key=True, sa_type=sa.Text, description="一格多长：hour、day、month")
    start: datetime = Field(primary_key=True, sa_type=TIMESTAMP, description="从何时起（UTC 的整点）")
    account: str = _name("账户；没有的是空的")
    user_name: str = _name("用户")
    partition: str = _name("分区")
    qos: str = _name("QOS；没有的是空的")
    wckey: str = _name("工作负载标签；没有的是空的")
    job_cpus: int = Field(0, primary_key=True, sa_column_kwargs=_ZERO, description="一次尝试的 CPU 数")
    jobs: int = Field(0, sa_type=sa.BigInteger, sa_column_kwargs=_ZERO, description="在这一格里结束的作业数")
    wall_s: Decimal = _sum("运行的时长（秒）")
    cpu_s: Decimal = _sum("CPU 数乘以时长（秒）")
    memory_mb_s: Decimal = _sum("内存（MiB）乘以时长（秒）")
    node_s: Decimal = _sum("节点数乘以时长（秒）")
    gpu_s: Decimal = _sum("GPU 数乘以时长（秒）")
    wall_moment: Decimal = _sum("运行的每一刻离这一格开头多远，按时长合计（秒的平方）：衰减以重心为准")
    others: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT, "nullable": False},
        description="别的 TRES 乘以时长，如 {'gres/gpu:a100': 60, 'license/matlab': 120}",
    )

    __table_args__ = (sa.CheckConstraint(one_of("period", Period), name="usage_rollups_period_known"),)


class UsageDue(SQLModel, table=True):
    """结束了、还没有加进汇总的一次尝试；记的是结束那一刻的账户、分区……"""

    __tablename__ = "usage_due"

    job_id: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False), description="作业号")
    restart_count: int = Field(sa_column=sa.Column(sa.Integer, primary_key=True), description="第几次尝试")
    account: str | None = Field(None, description="账户")
    user_name: str = Field(description="用户")
    partition: str = Field(description="分区")
    qos: str | None = Field(None, description="QOS")
    wckey: str | None = Field(None, description="工作负载标签")
    licenses: str | None = Field(None, description="许可证")
    final: bool = Field(description="作业到此结束了，不是重新排队")


class UsageBackfill(SQLModel, table=True):
    """升级之前就结束了的，从新到旧一段一段地补；补完就没有这一行。"""

    __tablename__ = "usage_backfill"

    singleton: bool = Field(True, primary_key=True, description="只有一行")
    next_job_id: int = Field(sa_type=sa.BigInteger, description="这个号与更小的还没有补")
    before: datetime = Field(sa_type=TIMESTAMP, description="这之前放开的才归它：之后的由触发器记")

    __table_args__ = (sa.CheckConstraint("singleton", name="usage_backfill_single"),)
