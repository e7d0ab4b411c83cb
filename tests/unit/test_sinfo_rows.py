"""sinfo：大小不同的节点合成一行（4+、从几到几），-e 时分开。"""

from typing import Any

from scns_conductor.slurm.nodes.node_columns import LETTERS
from scns_conductor.slurm.nodes.sinfo import node_rows
from scns_conductor.slurm.table.columns import letters, table

PARTITION: dict[str, Any] = {"name": "main", "is_default": True, "nodes": "n[1-3]", "node_list": "n[1-3]"}


def node(name: str, cpus: int, memory: int, load: float) -> dict[str, Any]:
    return {
        "name": name, "cpus": cpus, "memory": memory, "cpu_load": load, "free_memory": memory - 100, "weight": cpus,
        "temporary_disk": 500, "sockets": 1, "cores_per_socket": cpus, "threads_per_core": 1, "partitions": ["main"],
        "allocated_cpus": 0, "allocated_memory": 0, "drain": False, "availability": "UP", "power_state": "ON",
        "reason_user": None, "state": "IDLE",
    }  # fmt: skip


NODES = [node("n1", 4, 8000, 0.5), node("n2", 16, 8000, 1.25), node("n3", 4, 8000, 0.5)]


def shown(form: str, *, exact: bool, by_node: bool = False) -> list[str]:
    rows = node_rows([PARTITION], NODES, form, by_node=by_node, exact=exact)
    return table(letters("sinfo", form, LETTERS), rows, header=False)


def test_sizes_are_merged_unless_exact() -> None:
    form = "%D %c %m %w %d %z %N"
    assert shown(form, exact=False) == ["3 4+ 8000 4+ 500 1:4+:1 n[1-3]"]
    assert shown(form, exact=True) == ["2 4 8000 4 500 1:4:1 n[1,3]", "1 16 8000 16 500 1:16:1 n2"]


def test_loads_are_a_range_unless_exact() -> None:
    assert shown("%O %e", exact=False) == ["0.50-1.25 7900"]
    assert shown("%O %N", exact=True) == ["0.50 n[1,3]", "1.25 n2"]


def test_one_line_a_node_is_never_merged() -> None:
    assert shown("%N %c", exact=False, by_node=True) == ["n1 4", "n2 16", "n3 4"]
