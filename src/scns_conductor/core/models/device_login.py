"""scns login 的设备流程：终端等着，人在看板里批准。"""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import NOW, TIMESTAMP


class DeviceLogin(SQLModel, table=True):
    """一个等着批准的终端；取走令牌、过期就删。"""

    __tablename__ = "device_logins"

    device_digest: bytes = Field(primary_key=True, description="终端手里的码的摘要；码本身不存")
    user_code: str = Field(sa_column=sa.Column(sa.Text(), nullable=False, unique=True), description="给人看的码")
    host: str = Field(description="终端说自己在哪台机器上")
    address: str = Field(description="终端的地址")
    created_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时开始"
    )
    expires_at: datetime = Field(sa_type=TIMESTAMP, description="何时过期")
    user_name: str | None = Field(None, description="谁批准的；没有批准是空的")
    denied: bool = Field(False, sa_column_kwargs={"server_default": sa.false()}, description="被拒绝了")
