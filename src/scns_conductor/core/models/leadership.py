"""只有一行的表：谁是领导者，数据库是哪一个化身。"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import NOW, TIMESTAMP


class SchedulerLeader(SQLModel, table=True):
    """领导者：只有一行。epoch 是栅栏，每次提交都要核对；被接管的旧领导者什么也改不了。"""

    __tablename__ = "scheduler_leader"

    singleton: bool = Field(True, primary_key=True, description="只有一行")
    epoch: int = Field(0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="每次接管加一")
    holder: str | None = Field(None, description="谁：主机名:进程号")
    backend_pid: int | None = Field(None, description="持锁连接在 PostgreSQL 里的进程号")
    acquired_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时当选")
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

    singleton: bool = Field(True, primary_key=True, description="只有一行")
    incarnation: str = Field(description="随机的名字")
    since: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="从何时起"
    )
    reason: str = Field(description="为什么换：created、restore，或哪个节点发现的")

    __table_args__ = (sa.CheckConstraint("singleton", name="system_incarnation_single"),)
