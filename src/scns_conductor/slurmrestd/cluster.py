"""节点、分区、预留、许可证、公平份额、统计、控制器。"""

import os
import time
from collections.abc import Sequence
from typing import Any

from scns_conductor.api.middleware import LATENCY
from scns_conductor.api.routers.reservations import NewReservation, ReservationValues
from scns_conductor.core.errors import InvalidRequest, NotFound
from scns_conductor.core.hostlist import expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.reservation_flags import PURGE
from scns_conductor.services import reservations as reservation_services
from scns_conductor.services.diagnostics import diagnostics
from scns_conductor.services.licenses import license_usage
from scns_conductor.services.nodes import delete_nodes, list_nodes, update_node
from scns_conductor.services.partitions import list_partitions
from scns_conductor.services.reservation_words import IMPLIED_FLAGS
from scns_conductor.services.scheduler_questions import ask_shares
from scns_conductor.slurm.nodes.cluster_json import SHOWN_FLAGS
from scns_conductor.slurm.nodes.node_values import partition_nodes
from scns_conductor.slurm.shapes import nodes as shapes
from scns_conductor.slurm.shapes import statistics
from scns_conductor.slurm.shapes.schema import render
from scns_conductor.slurmrestd.operations import Call, Values, operation

_SINCE = "update_time:string"
_NODE_STATES = {
    "DRAIN": "DRAIN",
    "UNDRAIN": "UNDRAIN",
    "RESUME": "RESUME",
    "IDLE": "RESUME",
    "DOWN": "DOWN",
    "FAIL": "DOWN",
    "POWER_UP": "POWER_UP",
    "POWER_DOWN": "POWER_DOWN",
}


def _now(call: Call) -> dict[str, Any]:
    return {} if call.old else {"last_update": int(time.time())}


@operation("GET", "slurm", "ping", "openapi_ping_array_resp", since=38)
async def ping(call: Call) -> Values:
    """控制器在不在：领导者在续租就是 UP"""
    began = time.perf_counter()
    alive = (await call.parts.dashboard.leader())["alive"]
    latency = int((time.perf_counter() - began) * 1e6)
    return {"pings": [statistics.ping_record(call.version, os.uname().nodename, alive=alive, latency_us=latency)]}


@operation("GET", "slurm", "diag", "openapi_diag_resp", since=38, source="slurm_get_statistics")
async def diag(call: Call) -> Values:
    """调度的统计（sdiag）；时长的单位是微秒"""
    found = await diagnostics(call.parts.engine, call.parts.desk, LATENCY)
    return {"statistics": statistics.statistics_record(call.version, found)}


@operation("GET", "slurm", "reconfigure")
async def reconfigure(call: Call) -> Values:
    """重读设置：设置在启动时读，这里核对权限之后什么也不必做"""
    call.warn("Settings are read when a process starts; partitions, nodes and accounts take effect at once")
    return {}


@operation("GET", "slurm", "shares", "openapi_shares_resp", query="accounts:string users:string")
async def shares(call: Call) -> Values:
    """公平份额"""
    found = await ask_shares(call.parts.desk, call.identity.user_name)
    record = statistics.shares_record(call.version, found)
    accounts, users = (set((call.query(key) or "").split(",")) - {""} for key in ("accounts", "users"))
    if accounts or users:
        record["shares"] = [
            each
            for each in record["shares"]
            if ("USER" in each["type"] and each["name"] in users and (not accounts or each["parent"] in accounts))
            or (not users and ({each["name"], each["parent"]} & accounts))
        ]
    return {"shares": record}


@operation("GET", "slurm", "licenses", "openapi_licenses_resp", since=38)
async def licenses(call: Call) -> Values:
    """许可证与已用的数目"""
    found = await license_usage(call.parts.engine, (await call.parts.live.get()).licenses)
    return {"licenses": [shapes.license_record(call.version, each) for each in found], **_now(call)}


# ---- 节点 ----


async def _nodes(call: Call, name: str | None) -> Values:
    everything, partitions = await list_nodes(call.parts.engine), await list_partitions(call.parts.engine)
    nodes = [node for node in everything if name in (None, node["name"])]
    if name is not None and not nodes:
        raise NotFound(f"Failure to query node {name}", code="node_not_found")
    inside = {node["name"]: [] for node in everything}  # type: dict[str, list[str]]
    for partition in partitions:
        for node in partition_nodes(partition, everything):
            inside[node["name"]].append(partition["name"])
    records = [shapes.node_record(call.version, node, inside[node["name"]]) for node in nodes]
    return {"nodes": records, **_now(call)}


@operation("GET", "slurm", "nodes", "openapi_nodes_resp", query=f"{_SINCE} flags:string", since=38)
async def nodes(call: Call) -> Values:
    """全部节点；内存是 MiB"""
    return await _nodes(call, None)


@operation("GET", "slurm", "node/{node_name}", "openapi_nodes_resp", query=f"{_SINCE} flags:string", since=38,
           source="_dump_nodes", empty="nodes")  # fmt: skip
async def node(call: Call) -> Values:
    """一个节点；内存是 MiB"""
    return await _nodes(call, call.argument)


async def _change_nodes(call: Call, names: list[str]) -> Values:
    body = call.body
    words = [word for word in body.get("state") or () if word in _NODE_STATES]
    refused = [word for word in body.get("state") or () if word not in _NODE_STATES]
    if refused:
        raise InvalidRequest("state", f"不支持 {refused[0]}；可用 {'、'.join(_NODE_STATES)}", code="state_unknown")
    for key in sorted(body.keys() - {"state", "reason", "weight", "features", "features_act", "topology_str", "name"}):
        call.warn(f'Field "{key}" has no effect on this system')
    weight = body.get("weight")
    if weight is not None and not (isinstance(weight, int) and 0 <= weight < 2**31):
        raise InvalidRequest("weight", "应是 0 到 2147483647 的整数")
    for name in names:
        await update_node(
            call.parts.engine,
            call.identity,
            name,
            state=_NODE_STATES[words[0]] if words else None,
            reason=body.get("reason"),
            weight=weight,
            features=body.get("features", body.get("features_act")),
            topology=body.get("topology_str"),
            elastic=call.parts.settings.elastic,
        )
    return {}


@operation("POST", "slurm", "node/{node_name}", body="update_node_msg", source="slurm_update_node")
async def change_node(call: Call) -> Values:
    """修改节点：排空、恢复、下线、权重、特性"""
    return await _change_nodes(call, [call.argument])


@operation("POST", "slurm", "nodes", body="update_node_msg", source="slurm_update_node")
async def change_nodes(call: Call) -> Values:
    """修改 name 里列出的节点"""
    names = [each for text in call.body.get("name") or () for each in _hosts(text)]
    if not names:
        raise InvalidRequest("name", "写明节点，如 n1 或 n[1-3]")
    return await _change_nodes(call, names)


def _hosts(text: str) -> list[str]:
    try:
        return expand(text)
    except ValueError as error:
        raise InvalidRequest("name", str(error)) from error


@operation("DELETE", "slurm", "node/{node_name}", source="slurm_delete_node")
async def remove_node(call: Call) -> Values:
    """删除节点"""
    timeout = call.parts.settings.node_timeout_s
    await delete_nodes(call.parts.engine, call.identity, call.argument, node_timeout_s=timeout)
    return {}


# ---- 分区 ----


async def _partitions(call: Call, name: str | None) -> Values:
    everything, found = await list_nodes(call.parts.engine), await list_partitions(call.parts.engine)
    chosen = [each for each in found if name in (None, each["name"])]
    if name is not None and not chosen:
        raise NotFound(f"Unable to find partition {name}", code="partition_not_found")
    records = [shapes.partition_record(call.version, each, partition_nodes(each, everything)) for each in chosen]
    return {"partitions": records, **_now(call)}


@operation("GET", "slurm", "partitions", "openapi_partition_resp", query=f"{_SINCE} flags:string", since=38)
async def partitions(call: Call) -> Values:
    """全部分区；时限是分钟"""
    return await _partitions(call, None)


@operation("GET", "slurm", "partition/{partition_name}", "openapi_partition_resp", query=f"{_SINCE} flags:string",
           since=38, source="_dump_partitions", empty="partitions")  # fmt: skip
async def partition(call: Call) -> Values:
    """一个分区；时限是分钟"""
    return await _partitions(call, call.argument)


# ---- 预留 ----


async def _reservations(call: Call, name: str | None) -> Values:
    found = await reservation_services.list_reservations(call.parts.engine, name)
    live = [each for each in found if each["state"] != "ENDED"]
    return {"reservations": [shapes.reservation_record(call.version, each) for each in live], **_now(call)}


@operation("GET", "slurm", "reservations", "openapi_reservation_resp", query=_SINCE, since=38)
async def reservations(call: Call) -> Values:
    """还没有结束的预留"""
    return await _reservations(call, None)


@operation("GET", "slurm", "reservation/{reservation_name}", "openapi_reservation_resp", query=_SINCE, since=38,
           source="slurm_load_reservations", empty="reservations")  # fmt: skip
async def reservation(call: Call) -> Values:
    """一个预留"""
    return await _reservations(call, call.argument)


_SAME = ("start_time", "end_time", "node_count", "core_count", "partition", "comment")
_TAKEN = (
    "users", "accounts", "groups", "flags", "purge_completed", "duration", "node_list", "licenses", "name",
)  # fmt: skip


# slurmrestd 的标志 -> 我们的；只是说写了哪些字段、结果怎样的不必记。
_OUR_FLAGS = {shown: ours for ours, shown in SHOWN_FLAGS.items()}
_NOT_KEPT = frozenset({"SPEC_NODES", "ALL_NODES", "REOCCURRING", "DURATION_PLUS", "DURATION_MINUS"})
_NEVER_TAKEN_BACK = "NO_HOLD_JOBS_AFTER_END"


def _reservation_flags(words: Sequence[str], purge_s: Any, before: Sequence[str]) -> list[str]:
    """在原来的上面加；NO_ 开头的是去掉（同 slurmctld）。不认识的留给业务层点名。"""
    found = list(before)
    for word in words:
        gone = word.startswith("NO_") and word != _NEVER_TAKEN_BACK
        name = _OUR_FLAGS.get(word.removeprefix("NO_") if gone else word, word.removeprefix("NO_") if gone else word)
        found = [flag for flag in found if flag.partition("=")[0] != name]
        if not gone and word not in _NOT_KEPT:
            found.append(name)
    if purge_s:
        found = [flag for flag in found if flag.partition("=")[0] != PURGE]
        found.append(f"{PURGE}={int(purge_s) // 60}:{int(purge_s) % 60:02}")
    return found


def _reservation_values(given: Values, before: Sequence[str]) -> dict[str, Any]:
    """reservation_desc_msg -> 我们的字段；before 是原来的标志。"""
    found: dict[str, Any] = {key: given[key] for key in _SAME if given.get(key) not in (None, "", 0)}
    for key in ("users", "accounts", "groups"):
        if given.get(key):
            found[key] = list(given[key])
    purge_s = (given.get("purge_completed") or {}).get("time")
    if given.get("flags") or purge_s:
        found["flags"] = _reservation_flags(given.get("flags") or (), purge_s, before)
    if given.get("duration") is not None:
        found["duration"] = given["duration"]
    if given.get("node_list"):
        found["nodes"] = ",".join(given["node_list"])
    if given.get("licenses"):
        found["licenses"] = ",".join(given["licenses"])
    return found


async def _save_reservation(call: Call, given: dict[str, Any]) -> None:
    """有这个名字的就改，没有就新建。"""
    totals = dict(parse_licenses((await call.parts.live.get()).licenses))
    name = given.get("name") or ""
    unused = given.keys() - {*_SAME, *_TAKEN}
    for key in sorted(unused):
        call.warn(f'Field "{key}" has no effect on this system')
    known = {each["name"]: each for each in await reservation_services.list_reservations(call.parts.engine)}
    before = [flag for flag in known[name]["flags"] if flag not in IMPLIED_FLAGS] if name in known else []
    values = _reservation_values(given, before)
    if name in known:
        changes = ReservationValues.model_validate(values).changes()
        await reservation_services.update_reservation(call.parts.engine, call.identity, name, changes, totals)
        return
    new = NewReservation.model_validate({**values, "name": name}).changes()
    await reservation_services.create_reservation(call.parts.engine, call.identity, new, totals)


@operation("POST", "slurm", "reservation", "openapi_reservation_mod_resp", body="reservation_desc_msg", since=43,
           source="slurm_create_reservation")  # fmt: skip
async def save_reservation(call: Call) -> Values:
    """新建或修改一个预留"""
    await _save_reservation(call, call.body)
    return {"reservations": [render("reservation_desc_msg", call.version, call.body)]}


@operation("POST", "slurm", "reservations", "openapi_reservation_mod_resp", body="reservation_mod_req", since=43,
           source="slurm_create_reservation")  # fmt: skip
async def save_reservations(call: Call) -> Values:
    """新建或修改几个预留"""
    given = call.body.get("reservations") or []
    for each in given:
        await _save_reservation(call, each)
    return {"reservations": [render("reservation_desc_msg", call.version, each) for each in given]}


@operation("DELETE", "slurm", "reservation/{reservation_name}", source="slurm_delete_reservation")
async def remove_reservation(call: Call) -> Values:
    """删除预留"""
    await reservation_services.delete_reservation(call.parts.engine, call.identity, call.argument)
    return {}


@operation("POST", "slurm", "new/node", body="openapi_create_node_req", since=44, source="slurm_new_node")
async def new_node(call: Call) -> Values:
    """节点由它的代理登记，不能先写一行"""
    raise InvalidRequest("node_conf", "节点由它的代理自己登记：在那台机器上启动 scns worker", code="not_updatable")
