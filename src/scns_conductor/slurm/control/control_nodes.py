"""scontrol 对节点与分区做的：排空、恢复、修改、删除。"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from scns_conductor.client import ClientError, Problem
from scns_conductor.slurm.control.control_changes import partition_changes
from scns_conductor.slurm.parse.hosts import named_hosts
from scns_conductor.slurm.session import Fatal, connect, slurm_error

# 没有的状态换成意思最近的；别的由服务器拒绝。
_NODE_STATES = {"FAIL": "DRAIN", "IDLE": "RESUME"}


def update_node(target: str, given: dict[str, str]) -> int:
    """update NodeName=：状态、原因、权重、特性。"""
    changes: dict[str, Any] = {}
    for key, value in given.items():
        if key == "state":
            changes["state"] = _NODE_STATES.get(value.upper(), value.upper())
            if changes["state"] not in ("DOWN", "DRAIN", "RESUME", "UNDRAIN"):
                raise Fatal(
                    f"Invalid input: {key}={value}",
                    "Request aborted",
                    "Valid states are: NoResp DRAIN FAIL FUTURE RESUME POWER_DOWN POWER_UP UNDRAIN",
                    "Not all states are valid given a node's prior state",
                    prefix=None,
                )
        elif key in ("reason", "weight", "features", "availablefeatures", "activefeatures"):
            name = "features" if "features" in key else key
            if name == "weight" and not value.isdigit():
                print(f"scontrol: error: Weight value ({value}) is not a valid number", file=sys.stderr)
                raise Fatal("No changes specified", prefix=None)
            changes[name] = int(value) if name == "weight" else value.split(",") if name == "features" else value
        else:
            raise Fatal(f"Update of this parameter is not supported: {key}={value}", "Request aborted", prefix=None)
    if changes.get("state") in ("DOWN", "DRAIN") and not changes.get("reason"):
        raise Fatal("You must specify a reason when DOWNING or DRAINING a node. Request denied", prefix=None)
    with connect() as client:
        names = [node["name"] for node in client.nodes()] if target.upper() == "ALL" else named_hosts(target)
        for name in names:
            slurm_call("slurm_update error", partial(client.update_node, name, changes))
    return 0


def update_partition(target: str, given: dict[str, str]) -> int:
    """update PartitionName=。"""
    changes = partition_changes(given)
    if not changes:
        raise Fatal("No changes specified")
    with connect() as client:
        slurm_call("slurm_update error", lambda: client.update_partition(target, changes))
    return 0


def slurm_call(what: str, call: Callable[[], object]) -> None:
    """做一个请求；不成抛 Fatal，前面是 what。"""
    try:
        call()
    except ClientError as error:
        raise Fatal(f"{what}: {slurm_error(error)}", prefix=None) from error


def delete_node(name: str) -> int:
    """delete NodeName=。"""
    with connect() as client:
        try:
            client.delete_node(name)
        except ClientError as error:
            text = f"delete_node nodename={name}: {slurm_error(error)}"
            # Slurm 的话不说为什么忙；原因与怎么办附在后面一行。
            known = isinstance(error, Problem) and error.status == 409
            raise Fatal(f"{text}\n{error}" if known else text, prefix=None) from error
    return 0
