"""sacctmgr show transaction：记账的表改过什么，取自审计（要管理员或审计员）。"""

from datetime import datetime
from typing import Any

from scns_conductor.client import JsonClient
from scns_conductor.slurm.accounting.sacctmgr_columns import Field
from scns_conductor.slurm.accounting.sacctmgr_words import Request
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.table.job_values import cluster_name
from scns_conductor.slurm.table.times import instant_text, past_instant

_PAGE = 1000
# 审计的动作 -> slurmdbd 的话。
_VERBS = {"create": "Add", "add": "Add", "update": "Modify", "delete": "Remove", "remove": "Remove"}
_ENTITIES = {"account": "Accounts", "association": "Associations", "user": "Users", "qos": "QOS",
             "coordinator": "Coordinators"}  # fmt: skip


def _text(name: str) -> Any:
    return lambda row: row[name]


FORMAT = "time,action,actor,where,info"
FIELDS = {
    "id": Field("ID", 10, _text("id")),
    "timestamp": Field("Time", 19, _text("time")),
    "time": Field("Time", 19, _text("time")),
    "action": Field("Action", 20, _text("action")),
    "actor": Field("Actor", 10, _text("actor")),
    "where": Field("Where", 20, _text("where")),
    "info": Field("Info", 20, _text("info")),
    "cluster": Field("Cluster", 10, lambda _row: cluster_name()),
}


def transactions(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, list[dict[str, Any]]]:
    """旧的在前；where 可以写 actor、action、accounts、users、start、end、id。"""
    where = request.where
    query: dict[str, Any] = {"limit": _PAGE}
    for name, parameter in (("start", "since"), ("end", "until")):
        if where.get(name):
            try:
                query[parameter] = instant_text(past_instant(where[name][0]))
            except ValueError:
                raise Fatal(f"Invalid time specification (pos=0): {where[name][0]}", prefix=None) from None
    found: list[dict[str, Any]] = []
    while True:
        page = list(client.audit(**query))
        found += [row for each in page if (row := _row(each)) is not None and _wanted(row, each, where)]
        if len(page) < _PAGE:
            break
        query["before"] = page[-1]["audit_id"]
    return FORMAT, FIELDS, found[::-1]


def _row(entry: dict[str, Any]) -> dict[str, Any] | None:
    entity, _, verb = entry["action"].partition(".")
    if entity not in _ENTITIES or verb not in _VERBS:
        return None
    after = entry["after"] or {}
    return {
        "id": str(entry["audit_id"]),
        "time": datetime.fromisoformat(entry["at"]).astimezone().strftime("%Y-%m-%dT%H:%M:%S"),
        "action": f"{_VERBS[verb]} {_ENTITIES[entity]}",
        "actor": entry["actor"],
        "where": f"name='{entry['target']}'",
        "info": ",".join(f"{name}={_value(value)}" for name, value in after.items() if value not in (None, "", [], {})),
    }


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    return "+".join(f"{name}:{count}" for name, count in value.items()) if isinstance(value, dict) else str(value)


def _wanted(row: dict[str, Any], entry: dict[str, Any], where: dict[str, list[str]]) -> bool:
    named = {entry["target"], *entry["target"].split("/")}
    for side in ("before", "after"):
        named |= {str((entry[side] or {}).get(name)) for name in ("account", "user", "user_name")}
    return (
        (not where.get("actor") or row["actor"] in where["actor"])
        and (not where.get("id") or row["id"] in where["id"])
        and (not where.get("action") or any(row["action"].lower() == word.lower() for word in where["action"]))
        and all(not where.get(name) or not named.isdisjoint(where[name]) for name in ("account", "user"))
    )
