"""谁能做什么的数据表：账户的协调人、签发过的令牌、作废了令牌的用户，与只增不改的审计。"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_LIST, NOW, TIMESTAMP


class Coordinator(SQLModel, table=True):
    """账户的协调人：管这个账户与它的各级下级里的人、上限与作业（sacctmgr 的 coordinator）。"""

    __tablename__ = "account_coordinators"

    account: str = Field(
        sa_column=sa.Column(sa.Text, sa.ForeignKey("accounts.name", ondelete="CASCADE"), primary_key=True),
        description="账户",
    )
    user_name: str = Field(
        sa_column=sa.Column(sa.Text, sa.ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
        description="协调人",
    )


class AccessToken(SQLModel, table=True):
    """签发过的一个令牌。令牌自己不在库里，摘要也不在：凭签名核对，这里只有它的号。"""

    __tablename__ = "access_tokens"

    token_id: str = Field(primary_key=True, sa_type=sa.Text, description="令牌的号")
    user_name: str = Field(sa_type=sa.Text, description="谁的")
    name: str = Field("", sa_type=sa.Text, sa_column_kwargs={"server_default": ""}, description="名字，给人看的")
    role: str = Field(
        "user",
        sa_type=sa.Text,
        sa_column_kwargs={"server_default": "user"},
        description="user、operator、administrator、auditor；user 的再看用户的管理级别",
    )
    scopes: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST, "nullable": False},
        description="范围：read 只许看，submit 只许提交；空的是不限",
    )
    account: str | None = Field(None, sa_type=sa.Text, description="只管这个账户的作业；空的是不限")
    created_by: str = Field(sa_type=sa.Text, description="谁签发的")
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时签发"
    )
    expires_at: datetime = Field(sa_type=TIMESTAMP, description="何时到期")
    revoked_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时作废；空的是没有作废")
    revoked_by: str | None = Field(None, sa_type=sa.Text, description="谁作废的")
    last_used_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="最近一次用是何时；一会儿记一次")
    last_used_from: str | None = Field(None, sa_type=sa.Text, description="最近一次从哪个地址用")

    __table_args__ = (
        sa.Index("access_tokens_by_user", "user_name", "created_at"),
        sa.Index("access_tokens_revoked", "expires_at", postgresql_where=sa.text("revoked_at IS NOT NULL")),
    )


class RevokedUser(SQLModel, table=True):
    """这个用户在这一刻之前签发的、没有登记的令牌都不认：作废了全部令牌的、删除了的用户。"""

    __tablename__ = "revoked_users"

    user_name: str = Field(primary_key=True, sa_type=sa.Text, description="用户")
    revoked_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )


class AuditEntry(SQLModel, table=True):
    """审计的一条：谁、何时、从哪里、做了什么、之前之后各是什么。只增不改，改与删由触发器拒绝。"""

    __tablename__ = "audit_log"

    audit_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="次序"
    )
    at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时"
    )
    actor: str = Field(sa_type=sa.Text, description="谁做的")
    role: str = Field(sa_type=sa.Text, description="他当时的角色")
    method: str = Field(sa_type=sa.Text, description="怎样认出来的：token、job、socket 等")
    token_id: str | None = Field(None, sa_type=sa.Text, description="用的令牌的号；没有登记过的令牌是空的")
    address: str | None = Field(None, sa_type=sa.Text, description="从哪个地址")
    request_id: str | None = Field(None, sa_type=sa.Text, description="请求号（X-Request-Id）")
    action: str = Field(sa_type=sa.Text, description="做了什么，如 node.update")
    target: str = Field(sa_type=sa.Text, description="对什么做的，如节点名")
    before: dict[str, Any] | None = Field(None, sa_type=JSONB, description="之前")
    after: dict[str, Any] | None = Field(None, sa_type=JSONB, description="之后，或所写的改动")

    __table_args__ = (sa.Index("audit_log_by_time", "at"), sa.Index("audit_log_by_actor", "actor", "audit_id"))
