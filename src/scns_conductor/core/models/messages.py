"""进程之间经数据库说的话：收件箱、回答、幂等键。"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_LIST, EMPTY_OBJECT, MAX_NAME_LENGTH, NOW, TIMESTAMP


class SchedulerInbox(SQLModel, table=True):
    """收件箱：凡是调度器必须知道的变化，都在同一个事务里写一行并 NOTIFY scns_inbox。"""

    __tablename__ = "scheduler_inbox"

    inbox_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="次序"
    )
    kind: str = Field(
        description="jobs、ended、nodes、config 或请求：signal、suspend、resume、explain、read_log……",
    )
    job_ids: list[int] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.BigInteger),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="变了的作业",
    )
    node_names: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="变了的节点",
    )
    payload: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSONB, sa_column_kwargs={"server_default": EMPTY_OBJECT}, description="请求的内容"
    )
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )


class RequestAnswer(SQLModel, table=True):
    """对请求的回答：经收件箱提出，由调度器或代理写下并 NOTIFY scns_answer；读过即删，过期清除。"""

    __tablename__ = "request_answers"

    request_id: str = Field(primary_key=True, max_length=64, description="请求号（UUID）")
    answer: dict[str, Any] = Field(
        sa_type=JSONB,
        sa_column_kwargs={"nullable": False},
        description="回答的内容",
    )
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )


class IdempotencyKey(SQLModel, table=True):
    """幂等键：同一用户的同一个键只产生一次作业。"""

    __tablename__ = "idempotency_keys"

    user_name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="谁的")
    key: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="客户端给的键")
    request_hash: str = Field(description="请求内容的 SHA-256；同键不同内容是错误")
    job_ids: list[int] = Field(
        sa_type=ARRAY(sa.BigInteger), sa_column_kwargs={"nullable": False}, description="当时产生的作业号"
    )
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )

    __table_args__ = (sa.Index("idempotency_keys_by_age", "created_at", postgresql_using="brin"),)
