"""scontrol update、create、delete：看写的是哪一样，交给它的模块（scontrol(1)）。"""

from scns_conductor.slurm.control import control_reservations
from scns_conductor.slurm.control.control_changes import pairs, partition_changes
from scns_conductor.slurm.control.control_jobs import update_job, update_named, update_step
from scns_conductor.slurm.control.control_nodes import (
    create_node,
    delete_node,
    slurm_call,
    update_node,
    update_partition,
)
from scns_conductor.slurm.parse.keywords import full_key
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal, connect


def update(_parsed: Parsed, words: list[str]) -> int:
    """修改：作业、作业步、节点、预留、分区。"""
    if not words:
        raise Fatal("too few arguments for update keyword", prefix=None)
    if words[0].lower() in ("job", "node", "partition") and len(words) > 1:
        # update job 12 … 与 update jobid=12 … 都有人写。
        words = [
            f"{words[0]}id={words[1]}" if words[0].lower() == "job" and "=" not in words[1] else words[1],
            *words[2:],
        ]
    given = pairs(words)
    # 先看有没有作业号：partition= 可以是作业的，也可以是要改的分区。
    for name, change in (
        ("jobid", update_job),
        ("jobname", update_named),
        ("stepid", update_step),
        ("nodename", update_node),
        ("reservationname", _update_reservation),
        ("partitionname", update_partition),
    ):
        key = _key(given, name)
        if key is not None:
            return change(given.pop(key), given)
    raise Fatal(
        "No valid entity in update command",
        'Input line must include "NodeName", "PartitionName", "Reservation", "JobId", or "SlurmctldDebug"',
        prefix=None,
    )


def _update_reservation(target: str, given: dict[str, str]) -> int:
    with connect() as client:
        return control_reservations.update(client, target, given)


def create(_parsed: Parsed, words: list[str]) -> int:
    """新建：节点、预留、分区。"""
    if not words:
        raise Fatal("too few arguments for create keyword", prefix=None)
    given = pairs([word for word in words if "=" in word])
    if any(full_key(word.partition("=")[0], ["reservationname"], least=3) for word in words):
        with connect() as client:
            return control_reservations.create(client, given)
    node = _named(given, "nodename")
    if node is not None:
        return create_node(node, given)
    name = _named(given, "partitionname")
    if name is None:
        raise Fatal(f"Invalid creation entity: {words[0]}")
    with connect() as client:
        slurm_call(
            "Error creating the partition", lambda: client.create_partition({"name": name, **partition_changes(given)})
        )
    return 0


def _named(given: dict[str, str], name: str) -> str | None:
    """取走 name=（至少前三个字母）的值；没有、是空的都是 None。"""
    key = _key(given, name)
    return (given.pop(key) or None) if key is not None else None


def _key(given: dict[str, str], name: str) -> str | None:
    """name 在 given 里写作什么；没有写是 None。"""
    return next((key for key in given if full_key(key, [name], least=3)), None)


def delete(_parsed: Parsed, words: list[str]) -> int:
    """删除：节点、预留、分区。"""
    if not words:
        raise Fatal("too few arguments for delete keyword", prefix=None)
    given = pairs([word for word in words if "=" in word])
    reserved = _named(given, "reservationname")
    if reserved is not None:
        with connect() as client:
            return control_reservations.delete(client, reserved, words[0])
    node = _named(given, "nodename")
    if node is not None:
        return delete_node(node)
    name = _named(given, "partitionname")
    if name is None:
        raise Fatal(f"Invalid deletion entity: {words[0]}", prefix=None)
    with connect() as client:
        slurm_call(f"delete_partition partitionname={name}", lambda: client.delete_partition(name))
    return 0
