"""scontrol 对节点与分区做的：排空、恢复、修改、删除。"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from scns_conductor.client import ClientError, JsonClient, Problem
from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.control.control_changes import partition_changes
from scns_conductor.slurm.parse.hosts import named_hosts
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal, connect, in_english, slurm_error

# 没有的状态换成意思最近的；别的由服务器拒绝。
_NODE_STATES = {"FAIL": "DRAIN", "IDLE": "RESUME"}
_POWER_STATES = ("POWER_UP", "POWER_DOWN", "POWER_DOWN_ASAP", "POWER_DOWN_FORCE")
# create nodename= 的键 -> 字段。
_NEW_NODE = {"cpus": "cpus", "realmemory": "memory", "gres": "gres", "features": "features", "feature": "features",
             "weight": "weight"}  # fmt: skip


def update_node(target: str, given: dict[str, str]) -> int:
    """update NodeName=：状态、原因、权重、特性。"""
    changes: dict[str, Any] = {}
    for key, value in given.items():
        if key == "state":
            changes["state"] = _NODE_STATES.get(value.upper(), value.upper())
            if changes["state"] not in ("DOWN", "DRAIN", "RESUME", "UNDRAIN", *_POWER_STATES):
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


def create_node(target: str, given: dict[str, str]) -> int:
    """create NodeName= CPUs= RealMemory= [Gres= Features= Weight=] State=CLOUD：声明要用时才有的节点。"""
    node: dict[str, Any] = {"name": target}
    for key, value in given.items():
        if key == "state":
            if value.upper() not in ("CLOUD", "FUTURE"):
                raise Fatal(
                    f"State={value} is not supported here: nodes register themselves, or are CLOUD", prefix=None
                )
            continue
        if key not in _NEW_NODE:
            raise Fatal(f"Creation of a node with {key}={value} is not supported", prefix=None)
        if key in ("cpus", "realmemory", "weight") and not value.isdigit():
            raise Fatal(f"{key}={value} is not a valid number", prefix=None)
        name = _NEW_NODE[key]
        node[name] = int(value) if value.isdigit() else value.split(",") if name == "features" else value
    missing = [word for word, name in (("CPUs", "cpus"), ("RealMemory", "memory")) if name not in node]
    if missing:
        raise Fatal(f"Creation of node {target} needs {'= and '.join(missing)}=", prefix=None)
    with connect() as client:
        slurm_call("Error creating node(s)", partial(client.declare_nodes, node))
    return 0


def reboot_nodes(_parsed: Parsed, words: list[str]) -> int:
    """reboot [ASAP] [nextstate=RESUME|DOWN] [reason=…] 节点列表或 ALL：少写了一个词，不能重启整个集群。"""
    asap, options, targets = False, dict[str, str](), list[str]()
    for word in words:
        key, equals, value = word.partition("=")
        if word.upper() == "ASAP":
            asap = True
        elif equals and key.lower() in ("nextstate", "reason"):
            options[key.lower()] = value
        else:
            targets.append(word)
    next_state = options["nextstate"].upper() if "nextstate" in options else None
    if next_state not in (None, "RESUME", "DOWN"):
        raise Fatal(f"Invalid reboot nextstate: {options['nextstate']}", prefix=None)
    if not targets:
        raise Fatal("Missing node list. Specify ALL|<NodeList>", prefix=None)
    with connect() as client:
        for target in _targets(client, targets):
            slurm_call(
                "scontrol_reboot_nodes",
                partial(client.reboot_nodes, target, asap=asap, next_state=next_state, reason=options.get("reason")),
            )
    return 0


def power_nodes(_parsed: Parsed, words: list[str]) -> int:
    """power up|down [asap|force] 节点列表或 ALL [reason=…]（24.11 起；就是 update state=POWER_…）。"""
    direction = words[0].upper() if words else ""
    if direction not in ("UP", "DOWN"):
        raise Fatal("scontrol power needs up or down", prefix=None)
    rest, state = list(words[1:]), f"POWER_{direction}"
    if direction == "DOWN" and rest and rest[0].upper() in ("ASAP", "FORCE"):
        state += f"_{rest.pop(0).upper()}"
    reasons = [word.partition("=")[2] for word in rest if word.lower().startswith("reason=")]
    targets = [word for word in rest if "=" not in word]
    if not targets:
        raise Fatal("Missing node list. Specify ALL|<NodeList>", prefix=None)
    for target in targets:
        update_node(target, {"state": state, **({"reason": reasons[-1]} if reasons else {})})
    return 0


def node_addresses(_parsed: Parsed, words: list[str]) -> int:
    """getaddrs 节点列表：各节点的地址（23.11 起）。"""
    if not words:
        raise Fatal("Missing node list.", prefix=None)
    with connect() as client:
        known = {node["name"]: node["address"] for node in client.nodes()}
    for name in (name for word in words for name in named_hosts(word)):
        if name not in known:
            raise Fatal(f"Invalid node name specified: {name}", prefix=None)
        print(f"{name}: {known[name]}")
    return 0


def cancel_reboot(_parsed: Parsed, words: list[str]) -> int:
    """cancel_reboot 节点列表。"""
    if not words:
        raise Fatal("too few arguments for keyword:cancel_reboot", prefix=None)
    with connect() as client:
        for target in words:
            slurm_call("scontrol_cancel_reboot", partial(client.cancel_reboot, target))
    return 0


def _targets(client: JsonClient, words: list[str]) -> list[str]:
    """要动的节点列表；ALL 是全部。"""
    if [word.upper() for word in words] != ["ALL"]:
        return words
    names = [str(node["name"]) for node in client.nodes()]
    return [compress(names)] if names else []


def delete_node(name: str) -> int:
    """delete NodeName=。"""
    with connect() as client:
        try:
            client.delete_node(name)
        except ClientError as error:
            text = f"delete_node nodename={name}: {slurm_error(error)}"
            # Slurm 的话不说为什么忙；原因与怎么办附在后面一行。
            known = isinstance(error, Problem) and error.status == 409
            raise Fatal(f"{text}\n{in_english(error)}" if known else text, prefix=None) from error
    return 0
