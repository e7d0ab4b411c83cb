"""scontrol 的 reservation：新建、修改、删除、显示（scontrol(1) RESERVATIONS）。"""

import os
from collections.abc import Mapping
from typing import Any

from scns_conductor.client import Client, ClientError, Problem
from scns_conductor.core.hostlist import expand
from scns_conductor.slurm.session import Fatal, slurm_error
from scns_conductor.slurm.times import duration, epoch, instant

_FIELDS = {"starttime": "start_time", "endtime": "end_time", "duration": "duration", "nodes": "nodes", "comment":
           "comment"}  # fmt: skip
_LISTS = {"users": "users", "user": "users", "accounts": "accounts", "account": "accounts", "flags": "flags"}
_COUNTS = frozenset({"nodecnt", "nodecount"})
# 这里没有意义的标志：节点总是指名的，时间总是整段的。
_IMPLIED_FLAGS = frozenset({"SPEC_NODES", "ALL_NODES"})


def _values(given: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key in _FIELDS:
            found[_FIELDS[key]] = value
        elif key in _LISTS:
            words = [word for word in value.split(",") if word]
            found[_LISTS[key]] = [word for word in words if key != "flags" or word.upper() not in _IMPLIED_FLAGS]
        elif key in _COUNTS:
            if not value.isdigit():
                raise Fatal(f"Invalid node count {value}", prefix=None)
            found["node_count"] = int(value)
        else:
            raise Fatal(f"Update of this parameter is not supported: {key}={value}", "Request aborted", prefix=None)
    return found


def create(client: Client, given: dict[str, str]) -> int:
    """没有名字的叫 用户_序号。"""
    name = given.pop("reservationname", None) or given.pop("reservation", None)
    values = _values(given)
    if name is None:
        owner = (values.get("users") or values.get("accounts") or [os.environ.get("USER") or "root"])[0]
        known = {each["name"] for each in client.reservations()}
        name = next(text for number in range(1, 10_000) if (text := f"{owner}_{number}") not in known)
    _call("Error creating the reservation", lambda: client.create_reservation({"name": name, **values}))
    print(f"Reservation created: {name}")
    return 0


def update(client: Client, name: str, given: dict[str, str]) -> int:
    """修改。"""
    values = _values(given)
    _call("Error updating the reservation", lambda: client.update_reservation(name, values))
    print("Reservation updated.")
    return 0


def delete(client: Client, name: str) -> int:
    """删除。"""
    _call("slurm_delete_reservation", lambda: client.delete_reservation(name))
    return 0


def _call(what: str, action: Any) -> None:
    try:
        action()
    except ClientError as error:
        text = slurm_error(error)
        if isinstance(error, Problem) and error.code in ("reservation_nodes_busy", "reservation_too_large"):
            text = "Requested nodes are busy"
        if isinstance(error, Problem) and error.code == "reservation_overlaps":
            text = "Requested reservation overlaps existing reservation"
        raise Fatal(f"{what}: {text}", prefix=None) from error


def lines(reservation: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """scontrol show reservation 的一块。"""
    names = list(nodes) if reservation["nodes"] == "ALL" else list(expand(reservation["nodes"]))
    cores = sum(int(nodes[name]["cpus"]) for name in names if name in nodes)
    seconds = (epoch(reservation["end_time"]) or 0) - (epoch(reservation["start_time"]) or 0)
    flags = ",".join([*reservation["flags"], "SPEC_NODES"])
    return [
        f"ReservationName={reservation['name']} StartTime={instant(reservation['start_time'])}"
        f" EndTime={instant(reservation['end_time'])} Duration={duration(seconds)}",
        f"Nodes={reservation['nodes']} NodeCnt={len(names)} CoreCnt={cores} Features=(null) PartitionName=(null)"
        f" Flags={flags}",
        f"TRES=cpu={cores}",
        f"Users={_list(reservation['users'])} Groups=(null) Accounts={_list(reservation['accounts'])} Licenses=(null)"
        f" State={'ACTIVE' if reservation['state'] == 'ACTIVE' else 'INACTIVE'} BurstBuffer=(null) Watts=n/a",
        "MaxStartDelay=(null)",
    ]


def _list(words: list[str]) -> str:
    return ",".join(words) or "(null)"
