"""照看节点的设置：prolog 与 epilog 的规矩、健康检查、重启、节能。Settings 的一部分。"""

import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from scns_conductor.core.hostlist import expand

# slurm.conf(5) 的 HealthCheckNodeState 里有意义的。
HEALTH_CHECK_STATES = ("ANY", "IDLE", "ALLOC", "MIXED", "NONDRAINED_IDLE")


class NodeCareSettings(BaseSettings):
    """见模块的说明。"""

    prolog_epilog_timeout_s: float = Field(
        300.0, gt=0, description="prolog、epilog 至多跑多久（秒；Slurm 的 PrologEpilogTimeout），超时算失败"
    )
    prolog_serial: bool = Field(
        False, description="一个节点上的 prolog 一个接一个地跑（Slurm 的 PrologFlags=Serial）；假则至多十六个一起"
    )
    health_check_program: Path | None = Field(
        None,
        description="节点的健康检查（Slurm 的 HealthCheckProgram），以代理的身份运行；退出码不是 0 就排空节点，"
        "它说的最后几行是原因",
    )
    health_check_interval_s: float = Field(
        300.0, gt=0, description="多久检查一次（秒；Slurm 的 HealthCheckInterval）；代理一启动就先检查一次"
    )
    health_check_timeout_s: float = Field(60.0, gt=0, description="健康检查至多跑多久（秒），超时算没有通过")
    health_check_node_states: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["ANY"],
        description="节点是什么样时才检查（Slurm 的 HealthCheckNodeState），逗号分隔："
        "ANY、IDLE、ALLOC、MIXED、NONDRAINED_IDLE",
    )
    health_check_resume: bool = Field(
        True, description="健康检查又通过了，自动撤掉它自己做的排空；假则等管理员恢复。别人做的排空不动"
    )
    reboot_program: Path | None = Field(
        None, description="scontrol reboot 在节点上运行的程序（Slurm 的 RebootProgram），以代理的身份运行"
    )
    agent_restart_is_reboot: bool = Field(
        False, description="代理重新启动就算机器重启过（slurmd -b，容器与测试用）；假则看内核的 boot_id 变了没有"
    )

    suspend_program: str | None = Field(
        None,
        description="关机的命令（Slurm 的 SuspendProgram）：{nodes} 换成节点列表；写 {node} 则一个节点一条；"
        "都没有就把节点列表接在最后。与 resume_program 都写了才节能",
    )
    resume_program: str | None = Field(
        None, description="开机的命令（Slurm 的 ResumeProgram），写法同 suspend_program；它退出之后节点自己来登记"
    )
    power_program_timeout_s: float = Field(60.0, gt=0, description="开机、关机的命令至多跑多久（秒），超时杀掉，算失败")
    suspend_time_s: float | None = Field(
        None, ge=0, description="空闲多久就关机（秒；Slurm 的 SuspendTime）；不写是不关，只照人的要求开关"
    )
    suspend_timeout_s: float = Field(30.0, ge=0, description="关机要多久（秒；Slurm 的 SuspendTimeout），其间不能用")
    resume_timeout_s: float = Field(
        60.0, gt=0, description="开机、重启至多多久（秒；Slurm 的 ResumeTimeout），超过的标为下线，作业去别处"
    )
    suspend_rate: int = Field(60, ge=0, description="一分钟至多关几个节点（Slurm 的 SuspendRate），0 不限")
    resume_rate: int = Field(300, ge=0, description="一分钟至多开几个节点（Slurm 的 ResumeRate），0 不限")
    suspend_exc_nodes: str | None = Field(
        None, description="永远不自动关机的节点（Slurm 的 SuspendExcNodes），如 n[1-2]"
    )
    suspend_exc_partitions: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="这些分区的节点永远不自动关机（Slurm 的 SuspendExcParts），逗号分隔"
    )

    @field_validator("health_check_node_states", "suspend_exc_partitions", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("health_check_node_states")
    @classmethod
    def _known_node_states(cls, value: list[str]) -> list[str]:
        words = [word.upper() for word in value]
        for word in words:
            if word not in HEALTH_CHECK_STATES:
                raise ValueError(f"只能是 {'、'.join(HEALTH_CHECK_STATES)}，不能是 {word!r}")
        return words

    @field_validator("suspend_exc_nodes")
    @classmethod
    def _node_list(cls, value: str | None) -> str | None:
        if value:
            expand(value)
        return value or None

    @field_validator("suspend_program", "resume_program")
    @classmethod
    def _command(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("是空的")
        return value

    @property
    def elastic(self) -> bool:
        """节能：关着的节点也能分配作业，分配了就开机。"""
        return self.suspend_program is not None and self.resume_program is not None
