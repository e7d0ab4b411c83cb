"""此刻的集群，照 cluster.yaml 的各节读出来；以及写成文件里的样子。"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.hostlist import compress
from scns_conductor.core.transactions import Database
from scns_conductor.core.units import format_duration, format_memory_mb
from scns_conductor.services.cluster_content import COMPARED, State, Values, written
from scns_conductor.services.reservation_places import first_times
from scns_conductor.services.reservation_words import plain_flags
from scns_conductor.statements.accounts import LIST_ACCOUNTS, LIST_ASSOCIATIONS, LIST_USERS
from scns_conductor.statements.cluster_settings import SELECT_SETTINGS
from scns_conductor.statements.nodes import TRAITS_OF_NODES
from scns_conductor.statements.partitions import LIST_PARTITIONS
from scns_conductor.statements.qos import LIST_QOS

_TIME_LIMITS = frozenset({"max_time", "default_time", "max_wall", "grp_wall"})
_MEMORY = frozenset({"max_memory_per_node", "default_memory_per_cpu"})


async def read_state(connection: AsyncConnection) -> State:
    """节 -> 键 -> 各列；关联还有 association_id，预留还有 state。"""

    async def rows(statement: Any, **values: Any) -> list[Values]:
        return [dict(row) for row in (await connection.execute(statement, values)).mappings()]

    associations = await rows(LIST_ASSOCIATIONS, account=None, user=None)
    own = {row["account"]: row for row in associations if not row["user_name"]}
    return {
        "settings": {(row["name"],): {"value": row["value"]} for row in await rows(SELECT_SETTINGS)},
        "nodes": {(row["name"],): row for row in await rows(TRAITS_OF_NODES)},
        "qos": {(row["name"],): row for row in await rows(LIST_QOS, name=None)},
        "accounts": {
            (row["name"],): {**own.get(row["name"], {}), **row} for row in await rows(LIST_ACCOUNTS, name=None)
        },
        "associations": {
            (row["account"], row["user_name"], row["partition"]): row for row in associations if row["user_name"]
        },
        "users": {(row["name"],): row for row in await rows(LIST_USERS, name=None)},
        "partitions": {(row["name"],): row for row in await rows(LIST_PARTITIONS, name=None)},
        "reservations": {
            (row["name"],): {**row, "flags": plain_flags(row["flags"])} for row in await first_times(connection)
        },
    }


def shown_value(name: str, value: Any) -> Any:
    """一列在文件里的写法。"""
    if value is None:
        return None
    if name in _TIME_LIMITS:
        return format_duration(value)
    if name in _MEMORY:
        return format_memory_mb(value)
    return value.isoformat() if isinstance(value, datetime) else value


async def export(database: Database) -> dict[str, Any]:
    """cluster.yaml 的内容：与缺省值不同的都写出来；结束了的预留不写。"""
    async with database.connect() as connection:
        state = await read_state(connection)
    return {
        "version": 1,
        "settings": {key[0]: row["value"] for key, row in state["settings"].items()},
        "nodes": _nodes(state),
        "qos": [{"name": key[0], **_shown("qos", key, row)} for key, row in state["qos"].items()],
        "accounts": [{"name": key[0], **_shown("accounts", key, row)} for key, row in state["accounts"].items()],
        "users": [{"name": key[0], **_shown("users", key, row)} for key, row in state["users"].items()],
        "associations": [
            {"account": key[0], "user": key[1], **({"partition": key[2]} if key[2] else {}),
             **_shown("associations", key, row)}
            for key, row in state["associations"].items()
        ],
        "partitions": [{"name": key[0], **_shown("partitions", key, row)} for key, row in state["partitions"].items()],
        "reservations": [
            {"name": key[0], **_shown("reservations", key, row)}
            for key, row in state["reservations"].items()
            if row["state"] != "ENDED"
        ],
    }  # fmt: skip


def _shown(section: str, key: tuple[str, ...], row: Mapping[str, Any]) -> Values:
    columns = {name: row[name] for name in COMPARED[section]}
    found = written(section, key, columns)
    return {name: shown_value(name, value) for name, value in found.items() if value is not None}


def _nodes(state: State) -> list[Values]:
    """特性、权重、位置都相同的节点写成一个；没有什么可写的不写。"""
    groups: dict[Any, list[str]] = defaultdict(list)
    for key, row in state["nodes"].items():
        if row["features"] or row["weight"] != 1 or row["topology"]:
            groups[tuple(row["features"]), row["weight"], row["topology"]].append(key[0])
    return [
        {
            "name": compress(names),
            **({"features": list(features)} if features else {}),
            "weight": weight,
            **({"topology": topology} if topology else {}),
        }
        for (features, weight, topology), names in groups.items()
    ]
