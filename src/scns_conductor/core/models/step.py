"""作业步。"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_OBJECT, MAX_NAME_LENGTH, NOW, TIMESTAMP, one_of
from scns_conductor.core.states import JobState


class JobStep(SQLModel, table=True):
    """作业步（srun）：在作业的分配里启动的一组任务。作业的 batch 与 extern 不在这里，由作业的行推出。"""

    __tablename__ = "job_steps"

    job_id: int = Field(
        sa_column=sa.Column(
            sa.BigInteger, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        description="作业号",
    )
    restart_count: int = Field(sa_column=sa.Column(sa.Integer, primary_key=True), description="作业的第几次尝试")
    step_id: int = Field(sa_column=sa.Column(sa.Integer, primary_key=True), description="作业步号，从 0 起")
    name: str = Field(max_length=MAX_NAME_LENGTH, description="名字，缺省是程序名")
    state: str = Field(JobState.RUNNING, sa_column_kwargs={"server_default": "RUNNING"}, description="状态")
    tasks: int = Field(description="任务数")
    cpus_per_task: int = Field(description="每任务 CPU 数")
    nodes: list[str] = Field(sa_type=ARRAY(sa.Text), description="用到的节点，按作业里的次序")
    node_tasks: list[int] = Field(sa_type=ARRAY(sa.Integer), description="各节点上的任务数")
    node_cpus: list[int] = Field(sa_type=ARRAY(sa.Integer), description="各节点上占的 CPU 数；--overlap 的是 0")
    pending_nodes: list[str] = Field(sa_type=ARRAY(sa.Text), description="还没有报结束的节点")
    node_shares: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT, "nullable": False},
        description="各节点上独占的内存与通用资源，如 {'n1': {'memory': 512, 'gres': {'gpu': 1}, 'ids': {'gpu': [0]}}}",
    )
    samples: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT, "nullable": False},
        description="各节点上最近一次采样的用量；结束之后以结束时的为准",
    )
    launch: dict[str, Any] = Field(sa_type=JSONB, description="给节点的启动说明；没有连上的可以再送一遍")
    start_time: datetime | None = Field(
        None, sa_type=TIMESTAMP, sa_column_kwargs={"server_default": NOW, "nullable": False}, description="开始"
    )
    end_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="全部节点都结束的时刻")
    exit_status: int | None = Field(None, description="各任务退出码的最大值")
    exit_signal: int | None = Field(None, description="致死的信号，没有则为 0")
    cpu_user_s: float = Field(0, sa_column_kwargs={"server_default": "0"}, description="用户态 CPU 时间（秒）")
    cpu_system_s: float = Field(0, sa_column_kwargs={"server_default": "0"}, description="内核态 CPU 时间（秒）")
    max_rss_kb: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="一个节点上的内存峰值（KiB）"
    )

    __table_args__ = (
        sa.CheckConstraint(one_of("state", JobState), name="job_steps_state_known"),
        sa.CheckConstraint(
            "cardinality(nodes) = cardinality(node_tasks) AND cardinality(nodes) = cardinality(node_cpus)",
            name="job_steps_nodes_match",
        ),
    )
