"""作业的采样：运行时的 CPU、内存、GPU 随时间怎样变化。"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import TIMESTAMP


class JobSamples(SQLModel, table=True):
    """一次尝试在一个节点上的采样：等长的几格，格数有上限，满了两格并一格；短于一格的作业没有。"""

    __tablename__ = "job_samples"

    job_id: int = Field(
        sa_column=sa.Column(
            sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        description="作业号",
    )
    restart_count: int = Field(sa_column=sa.Column(sa.Integer, primary_key=True), description="第几次尝试")
    node_name: str = Field(sa_column=sa.Column(sa.Text, primary_key=True), description="节点")
    since: datetime = Field(sa_type=TIMESTAMP, description="第一格从何时起：作业在这个节点上开始的时刻")
    width_s: float = Field(description="一格多长（秒）")
    elapsed_s: float = Field(description="采样到了开始之后多久（秒）；最后一格可以不满")
    cpu_s: list[float] = Field(sa_type=ARRAY(sa.REAL), description="各格用掉的 CPU 时间（秒）")
    memory_mb: list[int | None] = Field(
        sa_type=ARRAY(sa.Integer), description="各格里内存的峰值（MiB）；没有采到是 null"
    )
    gpu_s: list[float] | None = Field(
        None, sa_type=ARRAY(sa.REAL), description="各格里各块 GPU 忙的时间合计（秒）；不知道是 null"
    )
    gpu_memory_mb: list[int | None] | None = Field(
        None, sa_type=ARRAY(sa.Integer), description="各格里显存的峰值合计（MiB）；不知道是 null"
    )
    gpu_energy_j: float | None = Field(None, description="各块 GPU 至今的能耗合计（焦耳）；不知道是 null")

    __table_args__ = (
        sa.CheckConstraint("cardinality(cpu_s) = cardinality(memory_mb)", name="job_samples_lengths_match"),
    )
