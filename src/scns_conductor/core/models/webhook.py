"""webhook：谁要知道哪些事、往哪里说（Webhook），要说的每一件（WebhookDelivery），集群出过的事（ClusterEvent）。

作业的事不另记：后台进程顺着 job_events 往下读，读到哪里写在 WebhookCursor 里。没有人订阅就没有人读。
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_OBJECT, MAX_NAME_LENGTH, NOW, TIMESTAMP, one_of
from scns_conductor.core.models.notification import NotificationState


class WebhookScope(StrEnum):
    """要谁的事。"""

    USER = "user"
    ACCOUNT = "account"
    CLUSTER = "cluster"


class WebhookFormat(StrEnum):
    """说成什么样子。"""

    JSON = "json"
    SLACK = "slack"
    FEISHU = "feishu"
    DINGTALK = "dingtalk"
    WECOM = "wecom"


class Webhook(SQLModel, table=True):
    """一个订阅。"""

    __tablename__ = "webhooks"

    webhook_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="编号"
    )
    user_name: str = Field(max_length=MAX_NAME_LENGTH, description="谁定的")
    scope: str = Field(description="user 自己的作业，account 一个账户（连同下级）的作业，cluster 整个集群")
    account: str | None = Field(None, description="scope 是 account 时，哪个账户")
    as_coordinator: bool = Field(
        False, sa_column_kwargs={"server_default": sa.false()}, description="作为账户的协调人定的：不再是了就收不到"
    )
    url: str = Field(description="往哪里说；知道它就能往那里说话，所以只给本人与管理员看")
    format: str = Field(description="json 一件一个请求；slack、feishu、dingtalk、wecom 是群里的一条消息")
    events: list[str] = Field(sa_type=ARRAY(sa.Text), description="哪些事，照写的样子，如 job.ended、node.*")
    secret: str | None = Field(None, description="签名的密钥")
    active: bool = Field(True, sa_column_kwargs={"server_default": sa.true()}, description="假的是停着，停着时的事不补")
    after_job_event: int = Field(sa_type=sa.BigInteger, description="只要这之后的作业的事")
    after_cluster_event: int = Field(sa_type=sa.BigInteger, description="只要这之后的集群的事")
    failures: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="接连几次没有送到")
    resume_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="在这之前不再试")
    leased_until: datetime | None = Field(None, sa_type=TIMESTAMP, description="有进程正在送，到此为止")
    dropped: int = Field(
        0,
        sa_type=sa.BigInteger,
        sa_column_kwargs={"server_default": "0"},
        description="积压太多而没有记下的事有几件",
    )
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时定下"
    )

    __table_args__ = (
        sa.CheckConstraint(one_of("scope", WebhookScope), name="webhooks_scope_known"),
        sa.CheckConstraint(one_of("format", WebhookFormat), name="webhooks_format_known"),
        sa.CheckConstraint("(scope = 'account') = (account IS NOT NULL)", name="webhooks_account_named"),
        sa.Index("webhooks_by_user", "user_name"),
    )


class WebhookDelivery(SQLModel, table=True):
    """要往一个地址说的一件事。"""

    __tablename__ = "webhook_deliveries"

    delivery_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="编号，越晚越大"
    )
    webhook_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("webhooks.webhook_id", ondelete="CASCADE"), nullable=False),
        description="哪个订阅",
    )
    message_id: str = Field(description="请求的 webhook-id：重试、重送都是同一个，收的一方照它认出重的")
    event: str = Field(description="什么事")
    payload: str = Field(description="请求体：定下时写好，重试时不变")
    state: str = Field(
        NotificationState.QUEUED,
        sa_column_kwargs={"server_default": "QUEUED"},
        description="QUEUED 等着送，SENT 送到了，DEAD 不再试",
    )
    attempts: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="试过几次")
    status_code: int | None = Field(None, description="最近一次那边答的 HTTP 状态码")
    error: str | None = Field(None, description="最近一次为什么没有送到")
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时定下"
    )
    next_try_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="下一次何时试"
    )
    sent_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时送到")

    __table_args__ = (
        sa.CheckConstraint(one_of("state", NotificationState), name="webhook_deliveries_state_known"),
        sa.Index("webhook_deliveries_of", "webhook_id", "delivery_id"),
        sa.Index("webhook_deliveries_due", "webhook_id", "delivery_id", postgresql_where=sa.text("state = 'QUEUED'")),
        sa.Index("webhook_deliveries_by_age", "created_at"),
    )


class ClusterEvent(SQLModel, table=True):
    """节点、预留、调度器、设置出过的事，由触发器记下；只增不改。"""

    __tablename__ = "cluster_events"

    event_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="次序"
    )
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )
    event: str = Field(description="node.down、reservation.created 等")
    subject: str = Field(description="节点、预留、设置的名字，调度器的主机名:进程号")
    detail: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="当时的样子",
    )

    __table_args__ = (
        sa.Index("cluster_events_by_age", "created_at"),
        sa.Index("cluster_events_of", "subject", "event_id"),
    )


class WebhookCursor(SQLModel, table=True):
    """各种事定到了哪里：只有一行，定的一方锁着它。"""

    __tablename__ = "webhook_cursor"

    singleton: bool = Field(True, primary_key=True, description="只有一行")
    job_event: int = Field(0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="作业的事")
    cluster_event: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="集群的事"
    )
    looked_at: datetime | None = Field(
        None,
        sa_type=TIMESTAMP,
        sa_column_kwargs={"server_default": NOW, "nullable": False},
        description="到时候的事（预留开始、结束）看到了何时",
    )

    __table_args__ = (sa.CheckConstraint("singleton", name="webhook_cursor_single"),)
