"""提交与修改作业的请求体：字段由 JobSpec 而来，名字取自 slurmrestd 的 job_desc_msg，写法同 sbatch(1)；校验后换成列。"""

import re
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)

from scns_conductor.api.derived import Form, request_fields
from scns_conductor.api.field_forms import (
    MAX_INT,
    MAX_TEXT_LENGTH,
    NOT_FLAG,
    Bundle,
    Flag,
    Name,
    NodeList,
    PositiveInt,
    Text,
    joined,
    not_number,
    one_container,
)
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.models import FIXED_AT_SUBMIT, JobSpec
from scns_conductor.core.text import is_text

# 由系统写的，用户不能要求。
_NOT_ASKED = ("user_name", "data_source")
_MEMORIES = ("memory_per_node", "memory_per_cpu", "memory_per_gpu")
_NODES = re.compile(r"^(\d{1,10})(?:-(\d{1,10}))?$")
_SIGNAL = re.compile(r"^(?:SIG)?[A-Z0-9+]{1,12}$")


def _upper_words(value: Any) -> Any:
    text = joined(value)
    return text.upper() if isinstance(text, str) else text


def _exclusive(value: Any) -> Any:
    """true、"exclusive" 是独占；false、"oversubscribe"、"" 不是。"user"、"mcs" 已换成 exclusive_to。"""
    words = value if isinstance(value, list) else [value]
    if any(isinstance(word, str) and word.lower() in ("exclusive", "true") for word in words):
        return True
    if all(isinstance(word, str) and word.lower() in ("", "false", "oversubscribe") for word in words):
        return False
    return not_number(value)


def _scope(value: Any) -> str | None:
    """exclusive 里的 "user"、"mcs"（sbatch 的 --exclusive=user）。"""
    words = value if isinstance(value, list) else [value]
    return next((word.lower() for word in words if isinstance(word, str) and word.lower() in ("user", "mcs")), None)


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
# 写法不能由列的类型推出的字段；别的见 derived.form_of。
_FORMS = {
    "name": Form(Name, examples=("hello",)),
    "partition": Form(Annotated[str, Field(min_length=1, max_length=1024)]),
    "argv": Form(Annotated[list[Text], Field(max_length=100_000)]),
    "environment": Form(
        Annotated[dict[str, str], BeforeValidator(_environment), _MAP_OR_LIST],
        how='：{名: 值}，或 ["名=值"]',
        examples=({"OMP_NUM_THREADS": "2"},),
    ),
    "current_working_directory": Form(
        Annotated[str, Field(max_length=MAX_TEXT_LENGTH, json_schema_extra={"pattern": "^/"})]
    ),
    "open_mode": Form(Annotated[str, Field(pattern="^(append|truncate)$")]),
    "umask": Form(Annotated[int, Field(ge=0, le=0o777), NOT_FLAG]),
    "tasks": Form(PositiveInt, aliases=("tasks", "ntasks")),
    "tasks_per_node": Form(PositiveInt, aliases=("ntasks_per_node", "tasks_per_node")),
    "tres_per_node": Form(Text, aliases=("tres_per_node", "gres")),
    "required_nodes": Form(NodeList),
    "excluded_nodes": Form(NodeList),
    "exclusive_to": Form(Annotated[str, Field(pattern="^(user|mcs)$")]),
    "exclusive": Form(Annotated[bool, BeforeValidator(_exclusive), _FLAG_OR_WORDS]),
    "hold": Form(Flag, description="提交后保留，直到 release"),
    "kill_warning_signal": Form(Annotated[str, Field(json_schema_extra={"pattern": _SIGNAL.pattern})]),
    "container": Form(Bundle),
    "mail_type": Form(Annotated[str, BeforeValidator(_upper_words)], examples=("END,FAIL",)),
}


class _JobRules(BaseModel):
    """一个作业要求的一切；都可以省略。"""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, str_strip_whitespace=False)

    nodes: Annotated[str, _COUNT_OR_RANGE] | None = Field(None, description="节点数，如 2 或 2-4（--nodes）")
    minimum_cpus: PositiveInt | None = Field(None, description="总共至少几个 CPU；没有写任务数时据此定任务数")
    array_max_tasks: Annotated[int, Field(ge=0, le=MAX_INT), NOT_FLAG] | None = Field(
        None, description="数组同时运行的上限；只用于修改，提交时写在 array 的 % 之后"
    )

    @model_validator(mode="before")
    @classmethod
    def _exclusive_scope(cls, data: Any) -> Any:
        scope = _scope(data.get("exclusive")) if isinstance(data, dict) else None
        return data if scope is None else {**data, "exclusive": False, "exclusive_to": scope}

    @field_validator("current_working_directory", check_fields=False)
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise ValueError("必须是绝对路径，例如 /home/alice/work")
        return value

    @field_validator("environment", check_fields=False)
    @classmethod
    def _variable_names(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, text in (value or {}).items():
            if not name or "=" in name or "\n" in name or "\0" in name:
                raise ValueError(f"变量名 {name!r} 不合法；不能为空，不能含 = 或换行")
            if "\0" in text:
                raise ValueError(f"变量 {name} 的值含有 NUL 字节")
            if not is_text(name + text):
                raise ValueError(f"变量 {name!r} 不是合法的 Unicode 文字（含有单个的代理字符）")
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

    @field_validator("umask", mode="before", check_fields=False)
    @classmethod
    def _octal(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return int(value, 8)
            except ValueError as error:
                raise ValueError(f"umask {value!r} 不是八进制数；例如 0022") from error
        return value

    @field_validator("kill_warning_signal", check_fields=False)
    @classmethod
    def _signal_name(cls, value: str | None) -> str | None:
        if value is not None and not _SIGNAL.match(value):
            raise ValueError(f"无法识别的信号 {value!r}；例如 USR1 或 10")
        return value

    @field_validator(
        "constraints", "prefer", "tres_per_job", "tres_per_node", "tres_per_task", "dependency", "licenses", "array",
        "container", "container_image",
        check_fields=False,
    )  # fmt: skip
    @classmethod
    def _no_blank(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for name, value in given.items():
            if (isinstance(value, str) and "\0" in value) or (
                isinstance(value, list) and any("\0" in item for item in value)
            ):
                raise ValueError(f"{name} 含有 NUL 字节")
        least, most = given.get("minimum_nodes"), given.get("maximum_nodes")
        if least and most and most < least:
            raise ValueError("maximum_nodes 小于 minimum_nodes")
        if given.get("exclusive_to") == "mcs" and not given.get("mcs_label"):
            raise ValueError("exclusive=mcs 要写 mcs_label（--mcs-label）：按它分谁和谁可以在一起")
        one_container(given.get("container"), given.get("container_image"))
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
        if minimum_cpus is not None and found.get("tasks") is None:
            found["tasks"] = -(-minimum_cpus // (found.get("cpus_per_task") or 1))
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


if TYPE_CHECKING:

    class JobRequest(_JobRules):
        """给类型检查看的：真的由下面的 create_model 造出，多出 JobSpec 的各个字段。"""

        partition: str | None = None
        reservation: str | None = None
else:
    JobRequest = create_model(
        "JobRequest",
        __base__=_JobRules,
        __doc__=_JobRules.__doc__,
        **request_fields(JobSpec, _FORMS, omit=_NOT_ASKED),
    )

# PATCH /jobs/{id} 能改的字段（scontrol(1) update job）。
UPDATABLE = frozenset(JobRequest.model_fields) - FIXED_AT_SUBMIT - {"minimum_cpus"} | {"gres"}
# 写成 null 有意义的列：不限时、去掉期限与依赖等。
_NULLABLE = frozenset(
    name for name, field in JobSpec.model_fields.items() if not field.is_required() and field.default is None
)


class SubmitRequest(BaseModel):
    """提交：作业的要求与整份脚本。"""

    model_config = ConfigDict(extra="forbid")

    job: JobRequest = Field(default_factory=JobRequest, description="作业的要求")
    script: str = Field(
        description="整份脚本，原样保存；没有 #! 的用 /bin/bash 运行", examples=["#!/bin/bash\necho hello\n"]
    )


class HetJobRequest(BaseModel):
    """异构作业：各个部分的要求，脚本在第 0 个部分上运行。"""

    model_config = ConfigDict(extra="forbid")

    jobs: list[JobRequest] = Field(min_length=1, max_length=128, description="各个部分，按次序")
    script: str = Field("", description="整份脚本；没有脚本的分配（interactive）是空的")


class BatchRequest(BaseModel):
    """批量提交：全部成功或全部不提交。"""

    model_config = ConfigDict(extra="forbid")

    jobs: list[SubmitRequest] = Field(min_length=1, description="作业，按此次序编号")
