"""异构作业：各个部分各是一行作业，一起启动、一起结束；脚本在第 0 个部分上运行。纯函数。"""

from collections.abc import Sequence
from typing import Any

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.states import HOLD_REASONS

# Slurm 的 MAX_HET_JOB_COMPS。
MOST_COMPONENTS = 128
# 别的部分不运行脚本：只留下与任务怎样摆有关的变量（-O）。
_KEPT_VARIABLES = ("SLURM_OVERCOMMIT", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_CPUS_PER_TASK")


def together(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """各个部分要写的行（new_job 的结果）合成一个异构作业；不能在一起的抛 InvalidRequest。"""
    first = rows[0]
    for index, row in enumerate(rows):
        prefix = f"jobs[{index}].job."
        if row["array"]:
            raise InvalidRequest(f"{prefix}array", "异构作业不能是数组（Slurm 也不能）", code="het_job_invalid")
        if row["reservation"] != first["reservation"]:
            raise InvalidRequest(f"{prefix}reservation", "异构作业的各个部分要用同一个预留", code="het_job_invalid")
        if row["interactive"] != first["interactive"]:
            raise InvalidRequest(f"{prefix}interactive", "要么都有脚本，要么都没有", code="het_job_invalid")
    return [first, *(_without_script(row, first) for row in rows[1:])]


def _without_script(row: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    if row["dependency"] == first["dependency"]:
        # 一起启动，等一个就够；写了 singleton 的也不会等自己。
        row = {**row, "dependency": None, "reason": HOLD_REASONS.get(row["hold"], "None")}
    environment = {name: row["environment"][name] for name in _KEPT_VARIABLES if name in row["environment"]}
    # 邮件只为第 0 个部分发（Slurm 也是）。
    return {**row, "script": None, "argv": [], "environment": environment, "mail_type": None, "mail_user": None}
