"""到时、遇事就提交的作业：用户的 crontab（scrontab）与触发（strigger）。

要提交的作业在定下时就核对、补全，原样存成 JSON（template）：键是 jobs 的列。
每一次都是 jobs 里的一行，从此与别的作业一样。
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_LIST, EMPTY_OBJECT, MAX_NAME_LENGTH, NOW, TIMESTAMP


class Crontab(SQLModel, table=True):
    """一个用户的 crontab，一人一份。"""

    __tablename__ = "crontabs"

    user_name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="谁的")
    text: str = Field(description="全文，与交来的一样")
    timezone: str = Field(description="时刻照哪个时区的钟面，如 Europe/Berlin")
    updated_at: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="何时交来"
    )


class CronEntry(SQLModel, table=True):
    """crontab 里的一项；job_id 是它最近的一次，没有结束就没有下一次。"""

    __tablename__ = "cron_entries"

    entry_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="编号"
    )
    user_name: str = Field(
        sa_column=sa.Column(sa.Text, sa.ForeignKey("crontabs.user_name", ondelete="CASCADE"), nullable=False),
        description="谁的",
    )
    first_line: int = Field(description="在全文的第几行开始，从 0 数起（连同它的 #SCRON 行）")
    last_line: int = Field(description="命令在第几行")
    schedule: str = Field(description="时刻：五个字段或 @daily 一类")
    template: dict[str, Any] = Field(
        sa_type=JSONB, sa_column_kwargs={"nullable": False}, description="要提交的作业，键是 jobs 的列"
    )
    job_id: int | None = Field(None, sa_type=sa.BigInteger, description="最近的一次")
    disabled: bool = Field(
        False, sa_column_kwargs={"server_default": sa.false()}, description="取消了它的一次，不再有下一次"
    )

    __table_args__ = (sa.Index("cron_entries_by_user", "user_name", "first_line"),)


class Trigger(SQLModel, table=True):
    """一个触发：事情发生了就提交 template，最后一个参数是作业号或节点列表；不是 permanent 的就此没有了。"""

    __tablename__ = "triggers"

    trigger_id: int | None = Field(
        None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True), description="编号"
    )
    user_name: str = Field(max_length=MAX_NAME_LENGTH, description="谁定的，程序就以谁的身份运行")
    event: str = Field(
        description="作业的 fini、time；节点的 down、up、drained、draining、resume、idle；集群的 reconfig 等"
    )
    job_id: int | None = Field(None, sa_type=sa.BigInteger, description="看这个作业，或它用着的节点")
    node_names: list[str] | None = Field(None, sa_type=ARRAY(sa.Text), description="看这些节点；空的是全部")
    offset_s: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="事情之后多久（秒）；负数是之前")
    permanent: bool = Field(False, sa_column_kwargs={"server_default": sa.false()}, description="做过之后还在")
    program: str = Field(description="程序与它的参数")
    template: dict[str, Any] = Field(
        sa_type=JSONB, sa_column_kwargs={"nullable": False}, description="要提交的作业，键是 jobs 的列"
    )
    seen: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="上次看时就是这样的节点：从别的样子变过来才算；集群的是看过的事的号",
    )
    hits: dict[str, float] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="出了事的节点 -> 何时去做（Unix 秒）",
    )

    __table_args__ = (sa.Index("triggers_by_job", "job_id", postgresql_where=sa.text("job_id IS NOT NULL")),)
