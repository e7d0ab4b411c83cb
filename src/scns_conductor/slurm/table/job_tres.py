"""作业的 TRES：cpu=2,mem=4G,node=1,billing=2。sacct 按字母排，squeue、scontrol 按 cpu、mem、node、billing、gres。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.gres import parse_gres
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.times import memory

Row = Mapping[str, Any]
# slurmdb 里各种 TRES 的编号。
TRES_IDS = {"cpu": 1, "mem": 2, "energy": 3, "node": 4, "billing": 5}
_ORDER = {"cpu": 0, "mem": 1, "node": 2, "billing": 3}


def with_totals(gres: Mapping[str, int]) -> dict[str, int]:
    """{'gpu:a100': 2, 'gpu': 1} -> {'gres/gpu': 3, 'gres/gpu:a100': 2}：有型号的另有不分型号的总数（同 slurmctld）。"""
    found: dict[str, int] = {}
    for name, count in gres.items():
        kind = name.partition(":")[0]
        for key in {f"gres/{kind}", f"gres/{name}"}:
            found[key] = found.get(key, 0) + count
    return dict(sorted(found.items()))


def node_tres(cpus: int, memory_mb: int, gres: Mapping[str, int], *, billing: bool) -> str:
    """节点的 CfgTRES、AllocTRES：cpu=4,mem=8G,billing=4,gres/gpu=2；什么也没有是空的。"""
    parts = [f"cpu={cpus}"] if cpus else []
    parts += [f"mem={memory(memory_mb)}"] if memory_mb else []
    parts += [f"billing={cpus}"] if billing else []
    return ",".join([*parts, *(f"{name}={count}" for name, count in with_totals(gres).items() if count)])


def partition_tres(nodes: Sequence[Row]) -> str:
    """分区的 TRES：各节点合计，cpu=8,mem=16G,node=2,billing=8,gres/gpu=4。"""
    cpus, gres = sum(int(node["cpus"]) for node in nodes), dict[str, int]()
    for node in nodes:
        for name, count in node["gres"].items():
            gres[name] = gres.get(name, 0) + count
    parts = [f"cpu={cpus}", f"mem={memory(sum(int(node['memory']) for node in nodes))}", f"node={len(nodes)}"]
    return ",".join([*parts, f"billing={cpus}", *(f"{name}={count}" for name, count in with_totals(gres).items())])


def gres_of(row: Row, *, allocated: bool) -> dict[str, int]:
    """分到的、或要的通用资源的总数，如 {'gpu:a100': 2}；读不懂的不算。"""
    times = {"tres_per_node": of.nodes(row), "tres_per_job": 1, "tres_per_task": int(row.get("tasks") or 1)}
    found: dict[str, int] = {}
    for field, count in ({"allocated_gres": 1} if allocated else times).items():
        try:
            asked = parse_gres(str(row.get(field) or ""))
        except ValueError:
            continue
        for name, each in asked.items():
            found[name] = found.get(name, 0) + each * count
    return found


def memory_total(row: Row) -> int:
    """要的内存总量（MiB）。"""
    if row.get("memory_per_node"):
        return int(row["memory_per_node"]) * of.nodes(row)
    if row.get("memory_per_gpu"):
        gpus = sum(count for name, count in gres_of(row, allocated=False).items() if name.partition(":")[0] == "gpu")
        return int(row["memory_per_gpu"]) * gpus
    return int(row.get("memory_per_cpu") or 0) * of.cpus(row)


def tres(row: Row, *, allocated: bool) -> str:
    """billing=2,cpu=2,gres/gpu=2,mem=4G,node=1；allocated 为真而没有分配时是空的。有型号的在总数之前（同 sacct）。"""
    if allocated and not row.get("allocated_cpus"):
        return ""
    amount = int(row["allocated_memory"]) if allocated else memory_total(row)
    parts = [f"billing={of.cpus(row)}", f"cpu={of.cpus(row)}"]
    found = with_totals(gres_of(row, allocated=allocated))
    typed_first = sorted(found, key=lambda name: (name.partition(":")[0], ":" not in name, name))
    parts += [f"{name}={found[name]}" for name in typed_first]
    if amount:
        parts.append(f"mem={memory(amount)}")
    return ",".join([*parts, f"node={of.nodes(row)}"])


def slurm_order(text: str) -> str:
    """换成 squeue 与 scontrol 的次序。"""
    # gres/gpu 在 gres/gpu:a100 之前。
    return ",".join(sorted(text.split(","), key=lambda part: (_ORDER.get(part.partition("=")[0], 4), part.split("="))))
