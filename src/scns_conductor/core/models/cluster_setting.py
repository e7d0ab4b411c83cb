"""运行时改过的设置。"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import NOW, TIMESTAMP


class ClusterSetting(SQLModel, table=True):
    """运行时改过的一项设置（core.runtime_settings），盖过环境变量与设置文件；删去这一行就又照它们。"""

    __tablename__ = "cluster_settings"

    name: str = Field(primary_key=True, sa_type=sa.Text, description="设置的名字，同 Settings")
    value: Any = Field(sa_type=JSONB, sa_column_kwargs={"nullable": False}, description="值")
    changed_by: str = Field(sa_type=sa.Text, description="谁改的")
    changed_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时改的"
    )
