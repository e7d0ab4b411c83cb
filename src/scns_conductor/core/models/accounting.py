"""记账的数据表：账户树、用户、关联（用户在账户里）与 QOS。名字与含义取自 sacctmgr(1)。

TRES 的表如 {"cpu": 8, "mem": 4096, "gres/gpu": 2, "license/matlab": 1}：内存 MiB，其余是个数；
…_mins 的单位是分钟乘以个数；时长是秒。没有写的就是不限。
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_LIST, EMPTY_OBJECT
from scns_conductor.core.sharing import QOS_PREEMPT_MODE

ADMIN_LEVELS = ("None", "Operator", "Administrator", "Auditor")


def _tres(description: str) -> Any:
    return Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT, "nullable": False},
        description=description,
    )


class Account(SQLModel, table=True):
    """账户；除了 root 都有上级。它自己的份额与上限写在 user_name 为空的关联里。"""

    __tablename__ = "accounts"

    name: str = Field(primary_key=True, sa_type=sa.Text, description="名字")
    parent: str | None = Field(
        None,
        sa_type=sa.Text,
        foreign_key="accounts.name",
        description="上级；root 没有",
    )
    description: str = Field(
        "",
        sa_type=sa.Text,
        sa_column_kwargs={"server_default": ""},
        description="说明",
    )
    organization: str = Field(
        "",
        sa_type=sa.Text,
        sa_column_kwargs={"server_default": ""},
        description="单位",
    )

    __table_args__ = (sa.CheckConstraint("(name = 'root') = (parent IS NULL)", name="accounts_one_root"),)


class User(SQLModel, table=True):
    """有关联的用户。admin_level：Administrator 等于持有管理员令牌，Operator 管记账、预留与别人的作业，Auditor 只看。"""

    __tablename__ = "users"

    name: str = Field(primary_key=True, sa_type=sa.Text, description="用户名")
    admin_level: str = Field(
        "None",
        sa_type=sa.Text,
        sa_column_kwargs={"server_default": "None"},
        description="None、Operator、Administrator、Auditor",
    )
    default_account: str | None = Field(
        None,
        sa_column=sa.Column(sa.Text, sa.ForeignKey("accounts.name", ondelete="SET NULL")),
        description="没有写账户的作业算在哪个账户里",
    )

    __table_args__ = (sa.CheckConstraint(f"admin_level IN {ADMIN_LEVELS!r}", name="users_admin_level_known"),)


class LimitColumns(SQLModel):
    """关联与 QOS 都有的上限。"""

    grp_tres: dict[str, int] = _tres("同时占用的总量")
    grp_tres_mins: dict[str, int] = _tres("累计用量（分钟），按半衰期衰减")
    grp_tres_run_mins: dict[str, int] = _tres("运行中的作业剩余的用量（分钟）")
    grp_jobs: int | None = Field(None, description="同时运行的作业数")
    grp_submit_jobs: int | None = Field(None, description="排队与运行的作业数")
    grp_wall: int | None = Field(None, sa_type=sa.BigInteger, description="累计的运行时长（秒），按半衰期衰减")
    max_tres_per_job: dict[str, int] = _tres("每个作业的总量")
    max_tres_per_node: dict[str, int] = _tres("每个作业在一个节点上的量")
    max_tres_mins_per_job: dict[str, int] = _tres("每个作业的量乘以时限（分钟）")
    max_wall: int | None = Field(None, sa_type=sa.BigInteger, description="每个作业的时限（秒）")


class Association(LimitColumns, table=True):
    """关联：用户在一个账户（的一个分区）里；user_name 为空的是账户自己的，它的上限由子账户与用户继承。"""

    __tablename__ = "associations"

    association_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="关联的号"
    )
    account: str = Field(
        sa_column=sa.Column(sa.Text, sa.ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
        description="账户",
    )
    user_name: str = Field(
        "", sa_type=sa.Text, sa_column_kwargs={"server_default": ""}, description="用户；空的是账户自己的"
    )
    partition: str = Field(
        "",
        sa_type=sa.Text,
        sa_column_kwargs={"server_default": ""},
        description="分区；空的是全部",
    )
    shares: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="公平份额")
    priority: int | None = Field(None, sa_type=sa.BigInteger, description="多因子优先级里的关联因子；空的由上级继承")
    default_qos: str | None = Field(
        None,
        sa_column=sa.Column(sa.Text, sa.ForeignKey("qos.name", ondelete="SET NULL")),
        description="没有写 QOS 的作业用哪个；空的由上级继承",
    )
    qos: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="许用的 QOS；空的由上级继承")
    max_jobs: int | None = Field(None, description="每个用户同时运行的作业数；空的由上级继承")
    max_submit_jobs: int | None = Field(None, description="每个用户排队与运行的作业数；空的由上级继承")
    comment: str | None = Field(None, sa_type=sa.Text, description="备注")

    __table_args__ = (
        sa.UniqueConstraint("account", "user_name", "partition", name="associations_once"),
        sa.CheckConstraint("shares >= 0", name="associations_shares_not_negative"),
        sa.CheckConstraint("user_name <> '' OR partition = ''", name="associations_partition_of_user"),
        sa.Index("associations_by_user", "user_name", postgresql_where=sa.text("user_name <> ''")),
    )


class Qos(LimitColumns, table=True):
    """服务质量。它写了的上限盖过关联的同一种。"""

    __tablename__ = "qos"

    name: str = Field(primary_key=True, sa_type=sa.Text, description="名字")
    description: str = Field(
        "",
        sa_type=sa.Text,
        sa_column_kwargs={"server_default": ""},
        description="说明",
    )
    priority: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="多因子优先级里的 QOS 因子"
    )
    flags: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST, "nullable": False},
        description="DenyOnLimit、NoDecay、RequiresReservation",
    )
    preempt: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST, "nullable": False},
        description="能抢占哪些 QOS 的作业",
    )
    preempt_mode: str | None = Field(
        None,
        sa_type=sa.Text,
        description="被抢占时怎么办：requeue、cancel、suspend、off，加 within 是同一个 QOS 里也抢占；空表示按全局设置",
    )
    preempt_exempt_time: int | None = Field(
        None,
        sa_type=sa.BigInteger,
        description="运行满多久才许被抢占（秒）",
    )
    grace_time: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="被抢占时的宽限（秒）")
    usage_factor: float = Field(1.0, sa_column_kwargs={"server_default": "1"}, description="用量按几倍计")
    max_tres_per_user: dict[str, int] = _tres("每个用户同时占用的总量")
    max_jobs_per_user: int | None = Field(None, description="每个用户同时运行的作业数")
    max_submit_jobs_per_user: int | None = Field(None, description="每个用户排队与运行的作业数")
    max_tres_per_account: dict[str, int] = _tres("每个账户同时占用的总量")
    max_jobs_per_account: int | None = Field(None, description="每个账户同时运行的作业数")
    max_submit_jobs_per_account: int | None = Field(None, description="每个账户排队与运行的作业数")
    min_tres_per_job: dict[str, int] = _tres("每个作业至少要多少")

    __table_args__ = (
        sa.CheckConstraint("usage_factor >= 0", name="qos_usage_factor_not_negative"),
        sa.CheckConstraint(f"preempt_mode ~ '{QOS_PREEMPT_MODE}'", name="qos_preempt_mode_known"),
    )
