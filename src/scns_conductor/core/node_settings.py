"""节点的设置：它有什么、作业在上面怎样跑（NodeSettings）；prolog 的规矩、健康检查、重启、节能（NodeCareSettings）。

都是 Settings 的一部分。
"""

import re
import shlex
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from scns_conductor.core.hostlist import expand
from scns_conductor.core.resource_limits import chosen_names
from scns_conductor.core.setting_words import split_words

_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# slurm.conf(5) 的 HealthCheckNodeState 里有意义的。
HEALTH_CHECK_STATES = ("ANY", "IDLE", "ALLOC", "MIXED", "NONDRAINED_IDLE")


class NodeSettings(BaseSettings):
    """本节点有什么，作业在它上面怎样跑。"""

    script_dir: Path | None = Field(
        None, description="作业脚本 job_{id}.sh 的目录；缺省 /var/scns-conductor/scripts，不可写时在数据目录下"
    )
    spool_dir: Path | None = Field(None, description="节点的工作目录（日志、套接字）；缺省在数据目录下")
    node_name: str = Field(
        default_factory=lambda: socket.gethostname().split(".")[0], description="本节点的名字，缺省为短主机名"
    )
    node_address: str | None = Field(None, description="别的节点用来连到本节点的地址，缺省与名字相同")
    node_cpus: int | None = Field(None, ge=1, le=65536, description="本节点的 CPU 数，缺省为探测值")
    node_cpu_unit: Literal["thread", "core"] = Field(
        "thread",
        description="一个 CPU 是什么：thread 是一个线程，core 是一个核（它的全部线程归一个作业，Slurm 的 CR_Core）",
    )
    node_cpu_topology: str | None = Field(
        None,
        description="本节点的 插槽:每插槽的核[:每核的线程[:NUMA 节点数]]，如 2:32:2，缺省为探测值；"
        "可以多于真有的（不绑核）",
    )
    node_memory: str | None = Field(None, description="本节点的内存，如 64G，缺省为探测值")
    node_gpus: int | None = Field(None, ge=0, le=65536, description="本节点的 GPU 数，缺省为探测值")
    node_gres: str | None = Field(None, description="本节点的通用资源，Slurm 写法，如 gpu:a100:4，优先于 node_gpus")
    node_gpu_shares: str = Field(
        "",
        description="几个作业合用的卡，序号:shard:几份 或 序号:mps:100，逗号相隔；这些卡不再整块地给（--gres=shard:1）",
    )
    gpu_watch_interval_s: float = Field(
        30.0, ge=0, description="多久看一次 GPU 还在不在、MIG 有没有重新划分（秒），连着两次才算；0 是不看"
    )
    node_features: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="本节点的特性，逗号分隔，供 --constraint 使用"
    )
    node_weight: int = Field(1, ge=0, description="节点权重，放置时先用权重小的")
    node_topology: str | None = Field(None, description="本节点所在的交换机路径，如 core/rack1，供拓扑感知放置")
    heartbeat_interval_s: float = Field(5.0, gt=0, description="节点心跳的间隔（秒）")
    job_sample_interval_s: float = Field(
        10.0, ge=0, description="多久记一次各作业的 CPU、内存、GPU（秒）；比这短的作业没有曲线，0 是不记"
    )
    node_timeout_s: float = Field(60.0, gt=0, description="多久没有心跳算节点失联（秒；Slurm 的 SlurmdTimeout）")
    kill_wait_s: float = Field(30.0, ge=0, description="SIGTERM 之后多久发 SIGKILL（秒；Slurm 的 KillWait）")
    containment: Literal["auto", "off", "required"] = Field(
        "auto", description="是否用 cgroup 约束作业：auto 能用则用，off 不用，required 不能用就拒绝启动"
    )
    foreign_jobs: Literal["kill", "keep"] = Field(
        "kill",
        description="数据库恢复之后，节点上它不认识的旧作业：kill 杀掉，keep 留着跑完（其间节点排空）",
    )
    single_user: bool = Field(False, description="单用户模式：作业以启动者的身份运行（scns up）")
    allow_root_jobs: bool = Field(False, description="是否允许作业以 root 身份运行")
    task_prolog: Path | None = Field(None, description="管理员的 prolog 程序，在作业前以代理的身份运行")
    nohold_on_prolog_fail: bool = Field(
        False,
        description="prolog 失败的作业重新排队时不保留（Slurm 的 nohold_on_prolog_fail）；在两个节点上失败过的总是保留",
    )
    task_epilog: Path | None = Field(None, description="管理员的 epilog 程序，在作业后以代理的身份运行")
    container_runtime: str | None = Field(
        None, description="--container 的运行时（crun 或 runc 的名字、路径）；不写先找 crun，再找 runc"
    )
    container_image_program: str | None = Field(
        None, description="--container-image 用哪个程序（podman 或 apptainer）；不写先找 podman，再找 apptainer"
    )
    container_mounts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="容器里也看得见的目录，逗号分隔，写成 目录 或 源:处[:ro]；/tmp、家目录、工作目录总看得见",
    )
    propagate_resource_limits: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["ALL"],
        description="sbatch、srun 那里的哪些软上限（ulimit）带到作业里（Slurm 的 PropagateResourceLimits），逗号分隔："
        "ALL、NONE，或 NOFILE、STACK、MEMLOCK、CORE……；--propagate 点名的总是带",
    )
    propagate_resource_limits_except: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="上一项里不带的（Slurm 的 PropagateResourceLimitsExcept），逗号分隔"
    )
    output_tail_bytes: int = Field(65536, ge=0, le=16 * 1024**2, description="作业结束时收进数据库的输出尾部（字节）")

    _node_words = field_validator(
        "node_features",
        "container_mounts",
        "propagate_resource_limits",
        "propagate_resource_limits_except",
        mode="before",
    )(split_words)

    @field_validator("propagate_resource_limits", "propagate_resource_limits_except")
    @classmethod
    def _known_limits(cls, value: list[str]) -> list[str]:
        chosen_names(value)
        return value

    @field_validator("node_name")
    @classmethod
    def _plain_node_name(cls, value: str) -> str:
        # 主机列表里有含义的字符、空白都不能在名字里；它也是 spool 下的目录名。
        if not _NODE_NAME.fullmatch(value):
            raise ValueError("节点名只能有字母、数字、. _ -，以字母或数字开头，至多 64 个字符")
        return value


class NodeCareSettings(BaseSettings):
    """节点怎样照看。"""

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
    node_clock_tolerance_s: float = Field(
        300.0, ge=0, description="本机的钟与数据库的差多少就排空节点（秒），对上了自己恢复；0 是不管"
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
    resume_fail_program: str | None = Field(
        None,
        description="节点没有按时开起来时运行的命令（Slurm 的 ResumeFailProgram），写法同 suspend_program；"
        "它成不成都不影响节点",
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

    _care_words = field_validator("health_check_node_states", "suspend_exc_partitions", mode="before")(split_words)

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

    @field_validator("suspend_program", "resume_program", "resume_fail_program")
    @classmethod
    def _command(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("是空的")
        return value

    @property
    def elastic(self) -> bool:
        """节能：关着的节点也能分配作业，分配了就开机。"""
        return self.suspend_program is not None and self.resume_program is not None
