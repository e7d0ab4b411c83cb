"""节点。"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from scns_conductor.core.models.columns import EMPTY_LIST, EMPTY_OBJECT, MAX_NAME_LENGTH, TIMESTAMP, one_of
from scns_conductor.core.states import NodeAvailability, PowerState, RebootStage

LEAVING_IS_EMPTY = "allocated_cpus = 0 OR (power_state <> 'POWERING_DOWN' AND reboot IS DISTINCT FROM 'ISSUED')"


class Node(SQLModel, table=True):
    """节点：资源、已分配的计数（由 CHECK 保证不超）、状态、心跳。"""

    __tablename__ = "nodes"

    name: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH, description="节点名")
    address: str = Field(description="连到它用的地址")
    cpus: int = Field(description="CPU 数")
    sockets: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="插槽数")
    cores_per_socket: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="每插槽的核数")
    threads_per_core: int = Field(
        1, sa_column_kwargs={"server_default": "1"}, description="每核的线程数；CPU 按核算的节点也照实写"
    )
    memory: int = Field(sa_type=sa.BigInteger, description="内存（MiB）")
    temporary_disk: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="临时磁盘（MiB）"
    )
    gres: dict[str, int] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="通用资源，如 {'gpu:a100': 4}",
    )
    features: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"server_default": EMPTY_LIST},
        description="特性",
    )
    weight: int = Field(1, sa_column_kwargs={"server_default": "1"}, description="权重")
    topology: str | None = Field(None, description="所在的交换机路径")
    pinned: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT, "nullable": False},
        description="scns apply 写下的 features、weight、topology：代理重新登记时以它们为准",
    )
    allocated_cpus: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="已分配 CPU 数")
    allocated_memory: int = Field(
        0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}, description="已分配内存（MiB）"
    )
    allocated_gres: dict[str, int] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="已分配的通用资源",
    )
    state: str = Field(NodeAvailability.UNKNOWN, description="UP、DOWN、UNKNOWN")
    drain: bool = Field(False, sa_column_kwargs={"server_default": sa.false()}, description="排空：不再接新作业")
    reason: str | None = Field(None, description="排空或下线的原因")
    reason_user: str | None = Field(None, description="谁写的原因")
    reason_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时写的原因")
    last_heartbeat: datetime | None = Field(None, sa_type=TIMESTAMP, description="最近一次心跳")
    beat: int = Field(
        0,
        sa_type=sa.BigInteger,
        sa_column_kwargs={"server_default": "0"},
        description="第几次登记或心跳；节点记得它，变小了就是数据库退回到了从前",
    )
    registered_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="代理最近一次登记的时刻")
    boot_id: str | None = Field(None, description="内核的 boot_id，变了就是重启过")
    boot_time: datetime | None = Field(None, sa_type=TIMESTAMP, description="开机时刻")
    agent_version: str | None = Field(None, description="代理的版本")
    architecture: str | None = Field(None, description="uname -m")
    operating_system: str | None = Field(None, description="操作系统与内核")
    cpu_load: float | None = Field(None, description="1 分钟平均负载")
    free_memory: int | None = Field(None, sa_type=sa.BigInteger, description="空闲内存（MiB）")
    spool_free: int | None = Field(
        None, sa_type=sa.BigInteger, description="工作目录（spool）与脚本目录所在的盘还有多少（MiB），取少的"
    )
    containment: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": EMPTY_OBJECT},
        description="哪些约束真正生效",
    )
    cloud: bool = Field(
        False, sa_column_kwargs={"server_default": sa.false()}, description="预先声明的，要用时才有（State=CLOUD）"
    )
    power_state: str = Field(
        PowerState.ON,
        sa_column_kwargs={"server_default": PowerState.ON.value},
        description="电源：ON、OFF、POWERING_UP、POWERING_DOWN",
    )
    power_since: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时到的这个电源状态")
    power_request: str | None = Field(
        None, description="有人要它：UP 开机，DOWN 空了就关，ASAP 不接新作业、空了就关，FORCE 强行关"
    )
    power_called: datetime | None = Field(
        None, sa_type=TIMESTAMP, description="最近一次何时为它运行 ResumeProgram 或 SuspendProgram"
    )
    power_done: datetime | None = Field(None, sa_type=TIMESTAMP, description="那个程序何时成了；还没有是空的")
    unasked_at: datetime | None = Field(None, sa_type=TIMESTAMP, description="最近一次何时没有要它开机、自己来了")
    power_error: str | None = Field(None, description="最近一次 ResumeProgram 或 SuspendProgram 出的错")
    boot_s: float | None = Field(None, description="最近一次从要它开机到它登记用了多久（秒）")
    boots: int = Field(0, sa_column_kwargs={"server_default": "0"}, description="要它开机、开成了几次")
    boot_total_s: float = Field(0.0, sa_column_kwargs={"server_default": "0"}, description="各次开机一共用了多久（秒）")
    off_s: float = Field(
        0.0, sa_column_kwargs={"server_default": "0"}, description="一共关了多久（秒），不含此刻的这一次"
    )
    idle_since: datetime | None = Field(None, sa_type=TIMESTAMP, description="从何时起空闲（只在节能时记）")
    planned: bool = Field(
        False,
        sa_column_kwargs={"server_default": sa.false()},
        description="空着，计划里留给了排在前面的作业（PLANNED）",
    )
    reboot: str | None = Field(None, description="重启：REQUESTED 等它空下来，ISSUED 已经在重启")
    reboot_asap: bool = Field(
        False, sa_column_kwargs={"server_default": sa.false()}, description="等着重启时不接新作业（reboot ASAP）"
    )
    reboot_next_state: str | None = Field(None, description="重启回来之后：RESUME 恢复（撤掉排空），DOWN 下线")
    reboot_reason: str | None = Field(None, description="为什么重启")
    reboot_since: datetime | None = Field(None, sa_type=TIMESTAMP, description="何时要它重启；已经在重启的是何时开始的")

    __table_args__ = (
        sa.CheckConstraint(one_of("state", NodeAvailability), name="nodes_state_known"),
        sa.CheckConstraint("allocated_cpus BETWEEN 0 AND cpus", name="nodes_cpus_within"),
        sa.CheckConstraint("allocated_memory BETWEEN 0 AND memory", name="nodes_memory_within"),
        # 多半没有：SQL 函数每条语句都要解析、计划一遍。
        sa.CheckConstraint("allocated_gres = '{}' OR scns_gres_within(allocated_gres, gres)", name="nodes_gres_within"),
        sa.CheckConstraint(one_of("power_state", PowerState), name="nodes_power_known"),
        sa.CheckConstraint(one_of("reboot", RebootStage), name="nodes_reboot_known"),
        # 正在关机、重启的节点上没有作业：与分配同时发生的，后到的一个不成。
        sa.CheckConstraint(LEAVING_IS_EMPTY, name="nodes_leaving_is_empty"),
        # 节点行更新极频繁（每次分配、每次心跳）：留出空间，让更新都是 HOT。
        {"postgresql_with": {"fillfactor": "50"}},
    )
