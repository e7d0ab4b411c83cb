"""保留期：结束的作业多久之后移进历史，多久之后丢掉。"""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import NOW, TIMESTAMP


class RetentionPolicy(SQLModel, table=True):
    """保留期，只有一行。历史按结束的月份分区，整月整月地丢。"""

    __tablename__ = "retention_policy"

    singleton: bool = Field(True, primary_key=True, description="只有一行")
    move_after_s: int | None = Field(None, sa_type=sa.BigInteger, description="结束这么久之后移进历史（秒）；空的不移")
    drop_after_s: int | None = Field(
        None, sa_type=sa.BigInteger, description="结束这么久之后从历史里丢掉（秒）；空的不丢"
    )
    changed_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时定的"
    )

    __table_args__ = (
        sa.CheckConstraint("singleton", name="retention_policy_single"),
        sa.CheckConstraint("move_after_s > 0 AND drop_after_s > 0", name="retention_policy_positive"),
        sa.CheckConstraint("drop_after_s >= move_after_s", name="retention_policy_order"),
    )
