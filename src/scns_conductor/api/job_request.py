"""提交与修改作业的请求体：字段名取自 slurmrestd 的 job_desc_msg，写法同 sbatch(1)；校验后换成 JobSpec 的列。"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.hostlist import check_hostlist
from scns_conductor.core.instants import local_now, parse_instant
from scns_conductor.core.models import MAX_NAME_LENGTH, JobSpec
from scns_conductor.core.units import parse_memory_mb, parse_time_limit

MAX_TEXT_LENGTH = 4096
MAX_INT = 2**31 - 1
# PATCH /jobs/{id} 能改的字段（scontrol(1) update job）；其余的提交后不变。
UPDATABLE = frozenset(
    {
        "account", "admin_comment", "array_max_tasks", "begin_time", "comment", "constraints", "cpus_per_task",
        "deadline", "dependency", "excluded_nodes", "exclusive", "extra", "gres", "hold", "licenses", "mail_type",
        "mail_user", "maximum_nodes", "memory_per_cpu", "memory_per_gpu", "memory_per_node", "minimum_cpus_per_node",
        "minimum_nodes", "name", "nice", "nodes", "oversubscribe", "partition", "priority", "qos", "requeue",
        "required_nodes", "required_switches",
        "maximum_switch_wait_time", "reservation", "tasks", "tasks_per_node", "time_limit", "time_minimum",
        "tres_per_job", "tres_per_node", "tres_per_task", "wckey",
    }
)  # fmt: skip
_MEMORIES = ("memory_per_node", "memory_per_cpu", "memory_per_gpu")
_NODES = re.compile(r"^(\d{1,10})(?:-(\d{1,10}))?$")
# 发信号的写法；有没有这个信号由校验说。
SIGNAL_PATTERN = r"^[A-Za-z0-9+]{1,15}$"
_SIGNAL = re.compile(r"^(?:SIG)?[A-Z0-9+]{1,12}$")


def _not_flag(value: Any) -> Any:
    """true 不是 1：接口的说明里是整数。"""
    if isinstance(value, bool):
        raise ValueError("必须是整数")  # noqa: TRY004 - pydantic 只认 ValueError
    return value


def _not_number(value: Any) -> Any:
    """1 不是 true。"""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("必须是 true 或 false")  # noqa: TRY004
    return value


NOT_FLAG = BeforeValidator(_not_flag)
Flag = Annotated[bool, BeforeValidator(_not_number)]


def _number(value: Any) -> Any:
    """slurmrestd 的数值对象 {"set": true, "infinite": false, "number": 4}。"""
    if not isinstance(value, dict):
        return _not_flag(value)
    if unknown := set(value) - {"set", "infinite", "number"}:
        raise ValueError(f"数值对象里有不认识的键 {sorted(unknown)[0]!r}；只有 set、infinite、number")
    number = value.get("number")
    if not all(isinstance(value.get(name, False), bool) for name in ("set", "infinite")):
        raise ValueError("数值对象的 set、infinite 必须是 true 或 false")
    if isinstance(number, bool) or not isinstance(number, int | float | None):
        raise ValueError("数值对象的 number 必须是数")  # noqa: TRY004
    if value.get("infinite"):
        return "UNLIMITED"
    return value.get("number") if value.get("set", True) else None


def _converted(convert: Callable[[Any], Any]) -> BeforeValidator:
    def apply(value: Any) -> Any:
        value = _number(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("必须是文字或数")  # noqa: TRY004 - pydantic 只认 ValueError
        return convert(value)

    return BeforeValidator(apply)


def _joined(value: Any) -> Any:
    """可以是文字，也可以是 slurmrestd 的字符串数组。"""
    text = ",".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
    return text or None


def _node_list(text: str) -> str:
    check_hostlist(text)
    return text


def _exclusive(value: Any) -> Any:
    """true、"exclusive"、"user"、"mcs" 都是独占；false、"oversubscribe"、"" 不是。"""
    words = value if isinstance(value, list) else [value]
    if any(isinstance(word, str) and word.lower() in ("user", "mcs", "exclusive", "true") for word in words):
        return True
    if all(isinstance(word, str) and word.lower() in ("", "false", "oversubscribe") for word in words):
        return False
    return _not_number(value)


def _environment(value: Any) -> Any:
    """变量表，或 slurmrestd 的 ["名=值", …]。"""
    if not isinstance(value, list):
        return value
    found: dict[str, str] = {}
    for item in value:
        if not isinstance(item, str) or "=" not in item:
            raise ValueError(f"环境变量 {item!r} 应写成 名=值")
        name, _, text = item.partition("=")
        found[name] = text
    return found


_NUMBER_OBJECT: JsonDict = {
    "type": "object",
    "properties": {
        "set": {"type": "boolean"},
        "infinite": {"type": "boolean"},
        "number": {"type": ["number", "null"]},
    },
    "additionalProperties": False,
}


def _schema(*forms: JsonDict) -> JsonDict:
    return {"anyOf": [*forms, _NUMBER_OBJECT, {"type": "null"}]}


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
PositiveInt = Annotated[int, Field(ge=1, le=MAX_INT), BeforeValidator(_number)]
NodeList = Annotated[str, Field(max_length=MAX_TEXT_LENGTH), BeforeValidator(_joined), AfterValidator(_node_list)]
# JSON Schema 里的写法：能写成模式的写成模式，其余的（主机列表、时刻）由校验说。
_TIME_TEXT = r"^\s*(UNLIMITED|INFINITE|-1|([0-9]{1,12}-)?[0-9]{1,12}(:[0-9]{1,12}){0,2})\s*$"
_MEMORY_TEXT = r"^\s*[0-9]{1,30}(\.[0-9]+)?\s*([KMGTPkmgtp]?([Ii]?[Bb])?)\s*$"
TimeLimit = Annotated[
    int | None,
    _converted(lambda value: parse_time_limit(int(value) if isinstance(value, float) else value)),
    Field(json_schema_extra=_schema({"type": "string", "pattern": _TIME_TEXT}, {"type": "number", "minimum": 1})),
]
Memory = Annotated[
    int | None,
    _converted(parse_memory_mb),
    Field(json_schema_extra=_schema({"type": "string", "pattern": _MEMORY_TEXT}, {"type": "number", "minimum": 0})),
]
Instant = Annotated[
    datetime | None,
    _converted(lambda value: parse_instant(value, local_now())),
    Field(json_schema_extra=_schema({"type": "string", "minLength": 1}, {"type": "number", "minimum": 0})),
]


_MAP_OR_LIST = WithJsonSchema(
    {
        "anyOf": [
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"type": "array", "items": {"type": "string", "pattern": "="}},
        ]
    }
)
_COUNT_OR_RANGE = WithJsonSchema(
    {"anyOf": [{"type": "string", "pattern": _NODES.pattern}, {"type": "integer", "minimum": 1, "maximum": MAX_INT}]}
)
_FLAG_OR_WORDS = WithJsonSchema(
    {"anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
)


def _also(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class JobRequest(BaseModel):
    """一个作业要求的一切；都可以省略。"""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, str_strip_whitespace=False)

    name: Name | None = Field(None, description="作业名，缺省 sbatch", examples=["hello"])
    account: Name | None = Field(None, description="账户")
    partition: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        None, description="分区；逗号分隔可列多个，先能启动的为准；缺省是缺省分区"
    )
    qos: Name | None = Field(None, description="服务质量")
    reservation: Name | None = Field(None, description="预留的名字")
    wckey: Name | None = Field(None, description="工作负载标签")
    argv: list[Text] | None = Field(None, max_length=10_000, description="脚本的参数")
    environment: Annotated[dict[str, str], BeforeValidator(_environment), _MAP_OR_LIST] | None = Field(
        None, description='环境变量：{名: 值}，或 ["名=值"]', examples=[{"OMP_NUM_THREADS": "2"}]
    )
    current_working_directory: (
        Annotated[str, Field(max_length=MAX_TEXT_LENGTH, json_schema_extra={"pattern": "^/"})] | None
    ) = Field(None, description="工作目录，绝对路径；缺省是用户的家目录")
    standard_input: Text | None = Field(None, description="标准输入的文件，缺省 /dev/null")
    standard_output: Text | None = Field(None, description="标准输出的文件，可含 %j %x %u %N %A %a；缺省 slurm-%j.out")
    standard_error: Text | None = Field(None, description="标准错误的文件；缺省与标准输出同一个")
    open_mode: str | None = Field(None, pattern="^(append|truncate)$", description="append 或 truncate")
    umask: Annotated[int, Field(ge=0, le=0o777), NOT_FLAG] | None = Field(None, description="作业进程的 umask")

    tasks: PositiveInt | None = Field(None, validation_alias=_also("tasks", "ntasks"), description="任务数（--ntasks）")
    tasks_per_node: PositiveInt | None = Field(
        None,
        validation_alias=_also("ntasks_per_node", "tasks_per_node"),
        description="每节点任务数（--ntasks-per-node）",
    )
    cpus_per_task: PositiveInt | None = Field(None, description="每任务 CPU 数")
    minimum_cpus: PositiveInt | None = Field(None, description="总共至少几个 CPU；没有写任务数时据此定任务数")
    nodes: Annotated[str, _COUNT_OR_RANGE] | None = Field(None, description="节点数，如 2 或 2-4（--nodes）")
    minimum_nodes: PositiveInt | None = Field(None, description="至少几个节点")
    maximum_nodes: PositiveInt | None = Field(None, description="至多几个节点")
    minimum_cpus_per_node: PositiveInt | None = Field(None, description="节点至少要有的 CPU 数（--mincpus）")
    memory_per_node: Memory = Field(None, description="每节点内存，如 16G，数字按 MB；0 是整个节点", examples=["16G"])
    memory_per_cpu: Memory = Field(None, description="每 CPU 内存")
    memory_per_gpu: Memory = Field(None, description="每 GPU 内存")
    temporary_disk_per_node: Memory = Field(None, description="节点至少要有的临时磁盘")
    tres_per_job: Text | None = Field(None, description="整个作业的通用资源，如 gres/gpu:8（--gpus）")
    tres_per_node: Text | None = Field(
        None, validation_alias=_also("tres_per_node", "gres"), description="每节点的通用资源，如 gpu:a100:2（--gres）"
    )
    tres_per_task: Text | None = Field(None, description="每任务的通用资源（--gpus-per-task）")
    constraints: Text | None = Field(None, description="节点特性的表达式，如 a100&nvme（--constraint）")
    required_nodes: NodeList | None = Field(None, description="必须包含的节点（--nodelist）")
    excluded_nodes: NodeList | None = Field(None, description="不得使用的节点（--exclude）")
    exclusive: Annotated[bool, BeforeValidator(_exclusive), _FLAG_OR_WORDS] | None = Field(None, description="独占节点")
    oversubscribe: Flag | None = Field(None, description="允许与别的作业共享 CPU")
    licenses: Text | None = Field(None, description="许可证，如 matlab:2,ansys")
    required_switches: PositiveInt | None = Field(None, description="最多跨几个交换机")
    maximum_switch_wait_time: Annotated[int, Field(ge=0, le=MAX_INT), BeforeValidator(_number)] | None = Field(
        None, description="为上一项至多等多少秒，之后跨几个都行；缺省与上限是 SCNS_MAX_SWITCH_WAIT_S"
    )
    distribution: Text | None = Field(None, description="任务的分布方式")

    time_limit: TimeLimit = Field(
        None, description="时限：分钟数，或 Slurm 的写法 MM:SS、HH:MM:SS、D-HH:MM:SS、UNLIMITED", examples=["120"]
    )
    time_minimum: TimeLimit = Field(None, description="可接受的最短时限（--time-min）")
    begin_time: Instant = Field(None, description="最早何时开始：ISO 8601、Unix 秒、now+1hour 等（--begin）")
    deadline: Instant = Field(None, description="最迟何时结束（--deadline）")
    dependency: Text | None = Field(None, description="依赖，如 afterok:12:13,singleton")
    kill_on_invalid_dependency: Flag | None = Field(None, description="依赖不可能满足时是否取消")
    hold: Flag | None = Field(None, description="提交后保留，直到 release")
    priority: Annotated[int, Field(ge=0, le=2**32 - 1), BeforeValidator(_number)] | None = Field(
        None, description="优先级（管理员）；0 等于保留"
    )
    nice: Annotated[int, Field(ge=-(2**31) + 3, le=2**31 - 3), NOT_FLAG] | None = Field(
        None, description="降低优先级的量；负数要管理员"
    )
    requeue: Flag | None = Field(None, description="节点故障或被抢占后能否重新排队")
    kill_warning_signal: Annotated[str, Field(json_schema_extra={"pattern": _SIGNAL.pattern})] | None = Field(
        None, description="时限将到时先发的信号（--signal）"
    )
    kill_warning_delay: Annotated[int, Field(ge=0, le=65535), BeforeValidator(_number)] | None = Field(
        None, description="提前多少秒发上述信号"
    )
    kill_warning_batch_only: Flag | None = Field(None, description="上述信号只发给批处理脚本（B:）")
    comment: Text | None = Field(None, description="备注")
    admin_comment: Text | None = Field(None, description="管理员的备注")
    extra: Text | None = Field(None, description="附加的任意文字")
    mail_type: Annotated[str, BeforeValidator(_joined)] | None = Field(None, description="何时发邮件")
    mail_user: Name | None = Field(None, description="发给谁")
    array: Text | None = Field(None, description="作业数组，如 0-99:3%5")
    array_max_tasks: Annotated[int, Field(ge=0, le=MAX_INT), NOT_FLAG] | None = Field(
        None, description="数组同时运行的上限；只用于修改，提交时写在 array 的 % 之后"
    )
    interactive: Flag | None = Field(None, description="没有批处理脚本的分配（salloc、独立的 srun）")
    submit_host: Name | None = Field(None, description="从哪台机器提交")
    command: Text | None = Field(None, description="脚本在提交者那里的路径，只是记录")

    @field_validator("current_working_directory")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise ValueError("必须是绝对路径，例如 /home/alice/work")
        return value

    @field_validator("environment")
    @classmethod
    def _variable_names(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, text in (value or {}).items():
            if not name or "=" in name or "\n" in name or "\0" in name:
                raise ValueError(f"变量名 {name!r} 不合法；不能为空，不能含 = 或换行")
            if "\0" in text:
                raise ValueError(f"变量 {name} 的值含有 NUL 字节")
        return value

    @field_validator("nodes", mode="before")
    @classmethod
    def _node_range(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        match = _NODES.match(value) if isinstance(value, str) else None
        if value is not None and (match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]) <= MAX_INT):
            raise ValueError(f"无法识别的节点数 {value!r}；例如 2 或 2-4")
        return value

    @field_validator("umask", mode="before")
    @classmethod
    def _octal(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return int(value, 8)
            except ValueError as error:
                raise ValueError(f"umask {value!r} 不是八进制数；例如 0022") from error
        return value

    @field_validator("kill_warning_signal")
    @classmethod
    def _signal_name(cls, value: str | None) -> str | None:
        if value is not None and not _SIGNAL.match(value):
            raise ValueError(f"无法识别的信号 {value!r}；例如 USR1 或 10")
        return value

    @field_validator("constraints", "tres_per_job", "tres_per_node", "tres_per_task", "dependency", "licenses", "array")
    @classmethod
    def _no_blank(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _consistent(self) -> "JobRequest":
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for name, value in given.items():
            if (isinstance(value, str) and "\0" in value) or (
                isinstance(value, list) and any("\0" in item for item in value)
            ):
                raise ValueError(f"{name} 含有 NUL 字节")
        if self.minimum_nodes and self.maximum_nodes and self.maximum_nodes < self.minimum_nodes:
            raise ValueError("maximum_nodes 小于 minimum_nodes")
        memories = [name for name in _MEMORIES if given.get(name) is not None]
        if len(memories) > 1:
            raise ValueError(f"{'、'.join(memories)} 只能写一个")
        return self

    def columns(self) -> dict[str, Any]:
        """请求里写了的字段 -> JobSpec 的列（已换算成秒、MiB）。没写的不在其中；hold 换成 'user'。"""
        found = {name: getattr(self, name) for name in self.model_fields_set}
        span = found.pop("nodes", None)
        if span is not None:
            match = _NODES.match(span)
            assert match is not None
            found["minimum_nodes"] = int(match[1])
            found["maximum_nodes"] = int(match[2] or match[1])
        minimum_cpus = found.pop("minimum_cpus", None)
        if minimum_cpus is not None and self.tasks is None:
            found["tasks"] = -(-minimum_cpus // (self.cpus_per_task or 1))
        if "hold" in found:
            found["hold"] = "user" if found["hold"] else None
        return {name: value for name, value in found.items() if value is not None or name in _NULLABLE}

    def changes(self) -> dict[str, Any]:
        """请求里写了的字段 -> 要改的列；提交之后不能再改的抛 InvalidRequest。"""
        for name in sorted(self.model_fields_set - UPDATABLE):
            raise InvalidRequest(name, "提交之后不能再改；请取消后重新提交", code="not_updatable")
        found = self.columns()
        if "array_max_tasks" in self.model_fields_set:
            found["array_max_tasks"] = self.array_max_tasks or None
        return found


# 写成 null 有意义的列：不限时、去掉期限与依赖等。
_NULLABLE = frozenset(
    name for name, field in JobSpec.model_fields.items() if not field.is_required() and field.default is None
)


class SubmitRequest(BaseModel):
    """提交：作业的要求与整份脚本。"""

    model_config = ConfigDict(extra="forbid")

    job: JobRequest = Field(default_factory=JobRequest, description="作业的要求")
    script: str = Field(
        description="整份脚本，原样保存；没有 #! 的用 /bin/bash 运行", examples=["#!/bin/bash\necho 你好\n"]
    )


class BatchRequest(BaseModel):
    """批量提交：全部成功或全部不提交。"""

    model_config = ConfigDict(extra="forbid")

    jobs: list[SubmitRequest] = Field(min_length=1, description="作业，按此次序编号")
