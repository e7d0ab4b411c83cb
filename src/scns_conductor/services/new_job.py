"""把用户的要求补全成 jobs 的一行：缺省值、分区、时限、数组，以及对照集群的检查。纯函数。"""

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scns_conductor.core.array_spec import parse_array
from scns_conductor.core.dependency import parse_dependency
from scns_conductor.core.distribution import check_distribution
from scns_conductor.core.errors import Forbidden, InvalidRequest, PayloadTooLarge
from scns_conductor.core.features import parse_features
from scns_conductor.core.gres import parse_gres
from scns_conductor.core.instants import utc_now
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.mail import parse_mail_types, parse_recipients
from scns_conductor.core.models import JobSpec
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import HOLD_REASONS
from scns_conductor.core.text import is_text
from scns_conductor.core.tokens import Identity
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.services.cluster_limits import ClusterLimits, PartitionLimits
from scns_conductor.services.placement_check import TIMES, nodes_for_gpus, require_feasible, require_possible_times

# 表里有、而用户不能写的列不在其中。
COLUMNS = (
    *JobSpec.model_fields, "script", "array_remaining", "array_max_tasks", "array_base", "array_step", "array_listed",
    "reason",
)  # fmt: skip
# 没写的字段取的值；与表的缺省值相同（见 tests/unit/test_job_defaults.py），所以写库时可以不送。
DEFAULTS: dict[str, Any] = {
    name: field.get_default(call_default_factory=True)
    for name, field in JobSpec.model_fields.items()
    if not field.is_required()
}
# 数组的各列在不是数组的作业里的值。
NOT_AN_ARRAY: dict[str, Any] = {
    "array_remaining": None, "array_max_tasks": None, "array_base": 0, "array_step": 1, "array_listed": None,
}  # fmt: skip
_DEFAULT_NAME = "sbatch"
# 要了才有的变量（sbatch(1)）：写了这一项的作业，环境里记着它（值由节点照那时的要求写）。
_ASKED_VARIABLES = {"SLURM_NTASKS": "tasks", "SLURM_NPROCS": "tasks", "SLURM_CPUS_PER_TASK": "cpus_per_task"}
_EXPRESSIONS: dict[str, Callable[[str], object]] = {
    "dependency": parse_dependency,
    "constraints": parse_features,
    "prefer": parse_features,
    "tres_per_job": parse_gres,
    "tres_per_node": parse_gres,
    "tres_per_task": parse_gres,
    "licenses": parse_licenses,
    "distribution": check_distribution,
    "mail_type": parse_mail_types,
    "mail_user": parse_recipients,
}
_ADMIN_ONLY = ("priority", "admin_comment")


@dataclass(frozen=True, slots=True)
class Submitter:
    """谁、从哪里提交。"""

    identity: Identity
    data_source: str = "API"


def new_job(
    columns: Mapping[str, Any],
    script: str,
    submitter: Submitter,
    limits: ClusterLimits,
    settings: Settings,
    prefix: str = "",
) -> dict[str, Any]:
    """返回 COLUMNS 各列的值；不合法抛 InvalidRequest 等，字段名前加 prefix（如 jobs[17].）。"""
    if submitter.identity.user_name == "root" and not (settings.single_user or settings.allow_root_jobs):
        raise Forbidden(
            "root 的作业节点不会运行；请用普通用户提交，或由管理员在 API 与各节点设置 SCNS_ALLOW_ROOT_JOBS=true",
            code="root_jobs_disabled",
        )
    script_text = _checked_script(columns, script, settings, prefix)
    row = {**DEFAULTS, "name": _DEFAULT_NAME, **columns}
    job = f"{prefix}job."
    row["script"] = script_text
    row["user_name"] = submitter.identity.user_name
    row["data_source"] = submitter.data_source
    row["account"] = row.get("account") or submitter.identity.account
    row["hold"] = _hold(row, submitter.identity)
    # 依赖要等的，当场就写明；别的原因由调度器写。
    row["reason"] = HOLD_REASONS.get(row["hold"], "Dependency" if row.get("dependency") else "None")
    row["current_working_directory"] = row.get("current_working_directory") or home_directory(row["user_name"])
    row["environment"] = _environment(row["environment"], columns)
    check_expressions(row, job)
    check_privileges(row, submitter.identity, job)
    if "tasks" not in columns:
        row["tasks"] = row["minimum_nodes"] * (row["tasks_per_node"] or 1)
    elif row["maximum_nodes"] is not None:
        # 说了几个任务的，节点不多于任务。
        row["maximum_nodes"] = min(row["maximum_nodes"], max(row["tasks"], row["minimum_nodes"]))
    if row["reservation"]:
        limits.require_reservation(row["reservation"], row["user_name"], row["account"], f"{job}reservation")
    _apply_partition(row, columns, limits, settings, job)
    row |= _array(row, settings, job)
    if any(row[name] is not None for name in TIMES[1:]):
        require_possible_times(row, utc_now(), job)
    row["minimum_nodes"] = nodes_for_gpus(row, limits, Defaults(settings.default_memory_mb_per_cpu))
    require_feasible(row, limits, Defaults(settings.default_memory_mb_per_cpu), job)
    return row


def _environment(given: Mapping[str, str], columns: Mapping[str, Any]) -> Mapping[str, str]:
    """环境里有没有 SLURM_NTASKS 等，看这个作业写了没有；从提交它的作业里带来的不算。"""
    asked = {name: str(columns[field]) for name, field in _ASKED_VARIABLES.items() if field in columns}
    if not asked and given.keys().isdisjoint(_ASKED_VARIABLES):
        return given
    if given.get("SLURM_OVERCOMMIT") == "1" and "SLURM_NTASKS" in given:
        # -O：要的任务数只在这里，tasks 是占的（见 job_environment.py）。
        asked["SLURM_NTASKS"] = given["SLURM_NTASKS"]
    return {name: text for name, text in given.items() if name not in _ASKED_VARIABLES} | asked


def check_expressions(row: Mapping[str, Any], prefix: str) -> None:
    """依赖、特性、通用资源、许可证、分布方式、邮件的写法；不合法抛 InvalidRequest。"""
    for name, parse in _EXPRESSIONS.items():
        if row.get(name):
            try:
                parse(row[name])
            except ValueError as error:
                raise InvalidRequest(f"{prefix}{name}", str(error)) from error


def check_privileges(row: Mapping[str, Any], identity: Identity, prefix: str) -> None:
    """只有管理员、Operator 能写的字段，与令牌限着的账户；别人写了抛 Forbidden。"""
    if identity.account is not None and row.get("account") not in (None, identity.account):
        raise Forbidden(f"{prefix}account：这个令牌只管账户 {identity.account}", code="token_scope")
    if identity.privileged:
        return
    for name in _ADMIN_ONLY:
        if row.get(name) is not None and not (name == "priority" and row[name] == 0):
            raise Forbidden(f"{prefix}{name}：只有管理员能设置；请去掉它", code="admin_required")
    if (row.get("nice") or 0) < 0:
        raise Forbidden(f"{prefix}nice：只有管理员能用负数", code="admin_required")


@lru_cache(maxsize=1024)
def home_directory(user_name: str) -> str:
    """用户的家目录；本机没有这个用户时是 /tmp。"""
    try:
        home = pwd.getpwnam(user_name).pw_dir
    except KeyError:
        return "/tmp"
    return home if os.path.isabs(home) else "/tmp"


def _checked_script(columns: Mapping[str, Any], script: str, settings: Settings, prefix: str) -> str | None:
    field = f"{prefix}script"
    if columns.get("interactive"):
        return None
    if not script.strip():
        raise InvalidRequest(field, "脚本是空的；请给出整份脚本", code="script_blank")
    if "\0" in script:
        raise InvalidRequest(field, "脚本含有 NUL 字节；只接受文本", code="script_has_nul")
    if not is_text(script):
        raise InvalidRequest(field, "脚本不是合法的 Unicode 文字（含有单个的代理字符）")
    # 先按字符数粗看，免得为每个小脚本都编码一遍。
    if len(script) * 4 > settings.script_max_bytes and len(script.encode()) > settings.script_max_bytes:
        raise PayloadTooLarge(
            f"{field}：脚本超过上限 {settings.script_max_bytes} 字节；请把数据放到文件里，由脚本去读",
            code="script_too_large",
        )
    return script


def _hold(row: Mapping[str, Any], identity: Identity) -> str | None:
    if row.get("hold") is None and row.get("priority") != 0:
        return None
    return "admin" if identity.privileged and row.get("priority") == 0 else "user"


def _apply_partition(
    row: dict[str, Any], columns: Mapping[str, Any], limits: ClusterLimits, settings: Settings, prefix: str
) -> None:
    text = row.get("partition") or limits.partition_of(row["reservation"])
    if text is None:
        raise InvalidRequest(f"{prefix}partition", "没有缺省分区；请写明分区", code="partition_unknown")
    names = [name.strip() for name in text.split(",")]
    limits.require_partitions(names, f"{prefix}partition")
    row["partition"] = ",".join(names)
    chosen = [limits.partitions[name] for name in names]
    if "time_limit" not in columns:
        row["time_limit"] = chosen[0].default_time or chosen[0].max_time
    row["maximum_nodes"] = row["maximum_nodes"] or None
    if settings.enforce_part_limits:
        _enforce(row, chosen, prefix)


def _enforce(row: Mapping[str, Any], chosen: Sequence[PartitionLimits], prefix: str) -> None:
    """Slurm 的 EnforcePartLimits=ANY：超过每一个分区的上限的，当场拒绝。"""
    wanted, nodes = row["time_limit"], row["minimum_nodes"]
    if all(each.max_time is not None and (wanted is None or wanted > each.max_time) for each in chosen):
        raise InvalidRequest(f"{prefix}time_limit", "超过分区的时限上限", code="time_limit_exceeded")
    if all(nodes < each.min_nodes or (each.max_nodes is not None and nodes > each.max_nodes) for each in chosen):
        raise InvalidRequest(f"{prefix}minimum_nodes", "节点数不在分区允许的范围里", code="node_count_invalid")


def _array(row: Mapping[str, Any], settings: Settings, prefix: str) -> dict[str, Any]:
    if not row["array"]:
        return NOT_AN_ARRAY
    if row["interactive"]:
        raise InvalidRequest(f"{prefix}array", "没有批处理脚本的分配不能是数组")
    try:
        spec = parse_array(row["array"], max_tasks=settings.array_max_tasks)
    except ValueError as error:
        raise InvalidRequest(f"{prefix}array", str(error), code="array_invalid") from error
    return {
        "array_remaining": spec.ranges,
        "array_max_tasks": spec.max_running,
        "array_base": spec.stride.base,
        "array_step": spec.stride.step,
        "array_listed": spec.stride.listed or None,
    }
