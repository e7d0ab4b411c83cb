"""POST /jobs/history 的请求：别的系统里结束了的作业，与它们各次占用的。"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from scns_conductor.api.field_forms import MAX_INT, NOT_FLAG, Name, Text
from scns_conductor.core.gres import MAX_COUNT
from scns_conductor.core.hostlist import check_hostlist
from scns_conductor.core.instants import local_now, parse_instant
from scns_conductor.core.states import TERMINAL_STATES
from scns_conductor.services.history_import import MOST_JOBS, history_array

_MOST_ATTEMPTS = 1000
# Slurm 的作业号是 32 位的。
_MOST_NUMBER = 2**32 - 1
_MOST_S = MAX_INT * 60
_NODES_TEXT = 64 * 1024


def _moment(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("必须是时刻，如 2026-01-31T08:00:00+08:00")  # noqa: TRY004 - pydantic 只认 ValueError
    return parse_instant(value, local_now())


def _nodes(text: str) -> str:
    check_hostlist(text)
    return text


def _tasks(text: str) -> str:
    history_array(text)
    return text


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    Field(json_schema_extra={"anyOf": [{"type": "string", "minLength": 1}, {"type": "number", "minimum": 0}]}),
]
Number = Annotated[int, Field(ge=1, le=_MOST_NUMBER), NOT_FLAG]
Count = Annotated[int, Field(ge=0, le=MAX_INT), NOT_FLAG]
Positive = Annotated[int, Field(ge=1, le=MAX_INT), NOT_FLAG]
Seconds = Annotated[float, Field(ge=0, le=_MOST_S, allow_inf_nan=False), NOT_FLAG]
Code = Annotated[int, Field(ge=0, le=255), NOT_FLAG]
State = Annotated[
    str, Field(pattern="^(" + "|".join(sorted(state.value for state in TERMINAL_STATES)) + ")$", max_length=16)
]
Gres = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.\-]*(:[A-Za-z0-9_][\w.\-]*)?$", max_length=255)],
         Annotated[int, Field(ge=1, le=MAX_COUNT), NOT_FLAG]],
    Field(max_length=64),
]  # fmt: skip


class HistoryAttempt(BaseModel):
    """一次尝试：在哪些节点上、占了多少、从何时到何时。"""

    model_config = ConfigDict(extra="forbid")

    restart_count: Count = Field(description="第几次尝试，从 0 起")
    start_time: Moment = Field(description="开始的时刻")
    end_time: Moment = Field(description="结束的时刻")
    run_s: Seconds | None = Field(None, description="运行的时长，挂起的不算（秒）；缺省是从开始到结束")
    state: State | None = Field(None, description="怎样结束的；被要求重新排队的不写")
    node_list: Annotated[str, Field(min_length=1, max_length=_NODES_TEXT), AfterValidator(_nodes)] = Field(
        description="节点，可以是压缩的写法"
    )
    cpus: Positive = Field(description="一共几个 CPU")
    memory: Annotated[int, Field(ge=0, le=2**50), NOT_FLAG] = Field(0, description="一共多少内存（MiB）")
    gres: Gres = Field(default_factory=dict, description="一共多少通用资源，如 {'gpu:a100': 2}")


class HistoryJob(BaseModel):
    """一个结束了的作业。"""

    model_config = ConfigDict(extra="forbid")

    job_id: Number = Field(description="作业号；这里已经有别的作业用了的不收")
    name: Name = Field("sbatch", description="作业名")
    user_name: Name = Field(description="用户")
    account: Name | None = Field(None, description="账户")
    partition: Name = Field(description="分区")
    qos: Name | None = Field(None, description="QOS")
    wckey: Name | None = Field(None, description="工作负载标签")
    reservation: Name | None = Field(None, description="预留")
    constraints: Text | None = Field(None, description="节点特性")
    licenses: Text | None = Field(None, description="许可证，如 matlab:2")
    comment: Text | None = Field(None, description="备注")
    admin_comment: Text | None = Field(None, description="管理员的备注")
    current_working_directory: Text = Field("/", description="工作目录")
    state: State = Field(description="怎样结束的")
    submit_time: Moment = Field(description="提交的时刻")
    eligible_time: Moment | None = Field(None, description="何时具备运行条件；缺省是提交的时刻")
    end_time: Moment = Field(description="结束的时刻")
    exit_status: Code | None = Field(None, description="退出码")
    exit_signal: Code | None = Field(None, description="致死的信号")
    derived_exit_status: Code | None = Field(None, description="各作业步退出码的最大值")
    time_limit: Annotated[int, Field(ge=1, le=_MOST_S), NOT_FLAG] | None = Field(
        None, description="时限（秒）；缺省是不限"
    )
    tasks: Positive = Field(1, description="要的任务数（一个任务一个 CPU）")
    minimum_nodes: Positive = Field(1, description="要的节点数")
    memory_per_node: Count | None = Field(None, description="要的每节点内存（MiB）")
    tres_per_node: Text | None = Field(None, description="要的每节点通用资源")
    tres_per_job: Text | None = Field(None, description="要的通用资源，整个作业的")
    suspended_s: Seconds = Field(0, description="挂起了多久（秒）")
    cpu_user_s: Seconds | None = Field(None, description="用户态 CPU 时间（秒）")
    cpu_system_s: Seconds | None = Field(None, description="内核态 CPU 时间（秒）")
    max_rss_kb: Annotated[int, Field(ge=0, le=2**50), NOT_FLAG] | None = Field(None, description="内存峰值（KiB）")
    array_job_id: Number | None = Field(None, description="所属数组的作业号")
    array_task_id: Count | None = Field(None, description="数组任务号")
    array_tasks: Annotated[str, Field(min_length=1, max_length=_NODES_TEXT), AfterValidator(_tasks)] | None = Field(
        None, description="没有启动就一起结束了的那些任务，如 5-9；与 array_task_id 只写一个"
    )
    het_job_id: Number | None = Field(None, description="所属异构作业的号")
    het_job_offset: Count = Field(0, description="是异构作业的第几个部分")
    restart_count: Count = Field(0, description="重新排队了几次")
    attempts: list[HistoryAttempt] = Field(
        default_factory=list, max_length=_MOST_ATTEMPTS, description="开始过的各次尝试，早的在前"
    )


class HistoryRequest(BaseModel):
    """一批。"""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.\-]+$")] = Field(
        "slurm", description="从哪里来，记在作业的历史里"
    )
    jobs: list[HistoryJob] = Field(min_length=1, max_length=MOST_JOBS, description="各个作业")
