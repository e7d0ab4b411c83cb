"""预留。"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_LIST, MAX_NAME_LENGTH, TIMESTAMP


class Reservation(SQLModel, table=True):
    """预留：一段时间里，一些节点与许可证只给列出的用户与账户；都没有列就谁也不给（维护）。

    重复的（标志 DAILY 等）写着第一次的时刻，以后的由它推出。
    """

    __tablename__ = "reservations"

    name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="名字")
    start_time: datetime = Field(sa_type=TIMESTAMP, description="开始")
    end_time: datetime = Field(sa_type=TIMESTAMP, description="结束")
    nodes: str = Field(description="节点列表；ALL 是全部，空的是不占节点")
    node_cpus: dict[str, int] | None = Field(
        None,
        sa_type=JSONB(none_as_null=True),
        description="按核留的：节点 -> 留几个 CPU，其余的照常给别人；null 是整个节点",
    )
    users: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="许用的用户",
    )
    accounts: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="许用的账户",
    )
    groups: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="许用的组：里面的用户都许",
    )
    flags: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="MAINT、IGNORE_JOBS、OVERLAP、DAILY、PART_NODES、FLEX、MAGNETIC、USER_DELETE 等",
    )
    partition: str | None = Field(None, description="分区：节点取自它")
    licenses: str | None = Field(None, description="预留的许可证，如 matlab:2")
    created_by: str = Field(max_length=MAX_NAME_LENGTH, description="谁定的")
    comment: str | None = Field(None, description="备注")

    __table_args__ = (sa.CheckConstraint("end_time > start_time", name="reservations_not_empty"),)


class ReservationVersion(SQLModel, table=True):
    """预留改过几次：只有一行。启动的语句核对它，计划之后才定的预留也挡得住已经计划好的启动。"""

    __tablename__ = "reservation_version"

    singleton: bool = Field(True, primary_key=True, description="只有一行")
    version: int = Field(0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="改一次加一")

    __table_args__ = (sa.CheckConstraint("singleton", name="reservation_version_single"),)
