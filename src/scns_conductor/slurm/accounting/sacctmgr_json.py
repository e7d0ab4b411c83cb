"""sacctmgr --json show：账户、用户、关联、QOS、TRES、集群（与 slurmrestd 的 /slurmdb 同一套记录）。"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from scns_conductor.client import JsonClient
from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.accounting.sacctmgr_words import Request, own_cluster
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.shapes import accounts as shapes
from scns_conductor.slurm.shapes.envelope import OLD_VERSIONS
from scns_conductor.slurm.table.json_answer import asked_version, write_answer

_KIND = "openapi/slurmdbd"
# 实体 -> (表, 键)。
_ANSWERS = {
    "account": ("openapi_accounts_resp", "accounts"),
    "user": ("openapi_users_resp", "users"),
    "association": ("openapi_assocs_resp", "associations"),
    "qos": ("openapi_slurmdbd_qos_resp", "qos"),
    "tres": ("openapi_tres_resp", "TRES"),
    "cluster": ("openapi_clusters_resp", "clusters"),
}
_COLUMNS = {"user": "user_name", "parent": "parent_account", "name": "name"}


def write(client: JsonClient, parsed: Parsed, entity: str, request: Request) -> int:
    """照 where 的条件挑出来，写成 JSON 或 YAML。"""
    version = asked_version(parsed)
    if version in OLD_VERSIONS:
        raise Fatal(f"{version} is not supported for sacctmgr; use v0.0.40 or newer")
    table, key = _ANSWERS[entity]
    return write_answer(parsed, table, key, _records(client, version, entity, request), kind=_KIND)


def _wanted(request: Request, row: Mapping[str, Any]) -> bool:
    if request.names and "name" in row and row["name"] not in request.names:
        return False
    return all(
        str(row.get(_COLUMNS.get(key, key)) or "") in allowed
        for key, allowed in request.where.items()
        if key != "cluster"
    )


def _records(client: JsonClient, version: str, entity: str, request: Request) -> list[dict[str, Any]]:
    if entity == "qos":
        return [shapes.qos_record(version, row) for row in client.qos() if _wanted(request, row)]
    named = [*request.names, *request.where.get("name", ())] if entity == "cluster" else ()
    if entity != "tres" and not own_cluster([*named, *request.where.get("cluster", ())]):
        return []
    if entity in ("tres", "cluster"):
        return _cluster_records(client, version, entity)
    associations = client.associations()
    if entity == "association":
        defaults = {user["name"]: user["default_account"] for user in client.users()}
        chosen = [row for row in associations if _wanted(request, row)]
        return [shapes.association_record(version, row, defaults) for row in chosen]
    column = "account" if entity == "account" else "user_name"
    inside: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in associations:
        inside[row[column]].append(row)
    if entity == "account":
        rows = [row for row in client.accounts() if _wanted(request, row)]
        return [shapes.account_record(version, row, inside[row["name"]]) for row in rows]
    users = [row for row in client.users() if _wanted(request, {**row, "user_name": row["name"]})]
    return [shapes.user_record(version, row, inside[row["name"]]) for row in users]


def _cluster_records(client: JsonClient, version: str, entity: str) -> list[dict[str, Any]]:
    nodes = client.nodes()
    totals = shapes.tres_totals(nodes)
    if entity == "tres":
        return shapes.tres_records(version, totals)
    host, _, port = client.url.partition("://")[2].partition("/")[0].partition(":")
    names = compress(node["name"] for node in nodes)
    return [shapes.cluster_record(version, names, host, int(port or 0), totals)]
