"""作业的 TRES：cpu=2,mem=4G,node=1,billing=2。sacct 按字母排，squeue、scontrol 按 cpu、mem、node、billing、gres。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.times import memory

Row = Mapping[str, Any]
# slurmdb 里各种 TRES 的编号。
TRES_IDS = {"cpu": 1, "mem": 2, "energy": 3, "node": 4, "billing": 5}
_ORDER = {"cpu": 0, "mem": 1, "node": 2, "billing": 3}


def memory_total(row: Row) -> int:
    """要的内存总量（MiB）。"""
    if row.get("memory_per_node"):
        return int(row["memory_per_node"]) * of.nodes(row)
    return int(row.get("memory_per_cpu") or 0) * of.cpus(row)


def tres(row: Row, *, allocated: bool) -> str:
    """billing=2,cpu=2,mem=4G,node=1；allocated 为真而没有分配时是空的。"""
    if allocated and not row.get("allocated_cpus"):
        return ""
    amount = int(row["allocated_memory"]) if allocated else memory_total(row)
    parts = [f"billing={of.cpus(row)}", f"cpu={of.cpus(row)}"]
    if allocated and row.get("allocated_gres"):
        parts += [f"gres/{item}" for item in str(row["allocated_gres"]).split(",")]
    if amount:
        parts.append(f"mem={memory(amount)}")
    return ",".join([*parts, f"node={of.nodes(row)}"])


def slurm_order(text: str) -> str:
    """换成 squeue 与 scontrol 的次序。"""
    return ",".join(sorted(text.split(","), key=lambda part: _ORDER.get(part.partition("=")[0], 4)))
