"""通知：作业的变化先由触发器记下（JobNotice），再由后台进程定下发什么（Notification），发出去。"""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import NOW, TIMESTAMP, one_of


class NotificationState(StrEnum):
    """一份通知到了哪一步。"""

    QUEUED = "QUEUED"
    SENT = "SENT"
    DEAD = "DEAD"


class JobNotice(SQLModel, table=True):
    """要发邮件的作业的一次变化；后台进程看过就删。"""

    __tablename__ = "job_notices"

    notice_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="次序"
    )
    job_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
        description="作业号",
    )
    restart_count: int = Field(description="第几次尝试")
    from_state: str | None = Field(None, description="原状态；数组新启动的任务为空")
    to_state: str = Field(description="新状态")
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )

    __table_args__ = (sa.Index("job_notices_by_job", "job_id"),)


class Notification(SQLModel, table=True):
    """一份要发、发过或发不出去的通知。"""

    __tablename__ = "notifications"

    notification_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="通知的号"
    )
    job_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
        description="作业号；整个数组一份的是数组的作业号",
    )
    restart_count: int = Field(description="第几次尝试；整个数组一份的是 0")
    occasion: str = Field(description="为什么发：BEGIN、END、FAIL、REQUEUE、TIME_LIMIT_80……")
    recipients: str = Field(description="发给谁，逗号分隔")
    state: str = Field(
        NotificationState.QUEUED,
        sa_column_kwargs={"server_default": "QUEUED"},
        description="QUEUED 等着发，SENT 发了，DEAD 不再试",
    )
    attempts: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="试过几次")
    error: str | None = Field(None, description="最近一次为什么没有发出去")
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时定下"
    )
    next_try_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="下一次何时试"
    )
    sent_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时发出")

    __table_args__ = (
        sa.CheckConstraint(one_of("state", NotificationState), name="notifications_state_known"),
        # 一件事只发一次：后台进程做到一半死了、有两个在跑，都不会重。
        sa.UniqueConstraint("job_id", "restart_count", "occasion", name="notifications_once"),
        sa.Index("notifications_due", "next_try_at", postgresql_where=sa.text("state = 'QUEUED'")),
        sa.Index("notifications_by_age", "created_at"),
    )
