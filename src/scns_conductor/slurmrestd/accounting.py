"""记账的表（sacctmgr）：账户、用户、关联、QOS、集群、TRES、wckey、整个配置；增删改在 accounting_changes。"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.errors import NotFound
from scns_conductor.core.hostlist import compress
from scns_conductor.services import account_users
from scns_conductor.services import accounts as services
from scns_conductor.services import qos as qos_services
from scns_conductor.services.associations import list_associations
from scns_conductor.services.nodes import list_nodes
from scns_conductor.slurm.shapes import accounts as shapes
from scns_conductor.slurm.shapes.schema import render
from scns_conductor.slurm.table.job_values import cluster_name
from scns_conductor.slurmrestd.operations import Call, Values, operation

Rows = list[dict[str, Any]]


def _wanted(call: Call, *names: str) -> set[str]:
    return set((call.query(*names) or "").split(",")) - {""}


def _pick(rows: Sequence[Mapping[str, Any]], key: str, wanted: set[str]) -> Rows:
    return [dict(row) for row in rows if not wanted or row[key] in wanted]


async def all_associations(call: Call) -> Rows:
    """全部关联的行。"""
    return await list_associations(call.database)


async def _account_records(call: Call, rows: Rows) -> Rows:
    inside: dict[str, Rows] = defaultdict(list)
    for each in await all_associations(call):
        inside[each["account"]].append(each)
    return [shapes.account_record(call.version, row, inside[row["name"]]) for row in rows]


async def _user_records(call: Call, rows: Rows) -> Rows:
    inside: dict[str, Rows] = defaultdict(list)
    for each in await all_associations(call):
        inside[each["user_name"]].append(each)
    return [shapes.user_record(call.version, row, inside[row["name"]]) for row in rows]


async def _association_records(call: Call, rows: Rows) -> Rows:
    users = await account_users.list_users(call.database)
    defaults = {user["name"]: user["default_account"] for user in users}
    return [shapes.association_record(call.version, row, defaults) for row in rows]


@operation("GET", "slurmdb", "accounts", "openapi_accounts_resp",
           query="description:string DELETED:string WithAssociations:string WithCoordinators:string WithDeleted:string",
           )  # fmt: skip
async def accounts(call: Call) -> Values:
    """全部账户"""
    return {"accounts": await _account_records(call, await services.list_accounts(call.database))}


@operation("GET", "slurmdb", "account/{account_name}", "openapi_accounts_resp", empty="accounts",
           query="with_assocs:string with_coords:string with_deleted:string")  # fmt: skip
async def account(call: Call) -> Values:
    """一个账户"""
    return {"accounts": await _account_records(call, await services.list_accounts(call.database, call.argument))}


@operation("GET", "slurmdb", "users", "openapi_users_resp",
           query="admin_level:string default_account:string default_wckey:string with_assocs:string with_coords:string "
                 "with_deleted:string with_wckeys:string without_defaults:string")  # fmt: skip
async def users(call: Call) -> Values:
    """有关联的用户"""
    rows = await account_users.list_users(call.database)
    rows = _pick(rows, "admin_level", _wanted(call, "admin_level"))
    return {"users": await _user_records(call, _pick(rows, "default_account", _wanted(call, "default_account")))}


@operation("GET", "slurmdb", "user/{name}", "openapi_users_resp", empty="users",
           query="with_assocs:string with_coords:string with_deleted:string with_wckeys:string")  # fmt: skip
async def user(call: Call) -> Values:
    """一个用户"""
    return {"users": await _user_records(call, await account_users.list_users(call.database, call.argument))}


ASSOCIATION_QUERY = "account:string user:string cluster:string partition:string id:string"


def chosen_associations(call: Call, rows: Rows) -> Rows:
    """条件都是逗号分隔的；user 是空的只要账户自己的。"""
    given = call.request.query_params
    for name, key in (("account", "account"), ("partition", "partition")):
        rows = _pick(rows, key, _wanted(call, name))
    if "user" in given:
        names = set(given["user"].split(","))
        rows = [row for row in rows if row["user_name"] in names]
    if cluster := _wanted(call, "cluster"):
        rows = rows if cluster_name() in cluster else []
    numbers = _wanted(call, "id")
    return [row for row in rows if not numbers or str(row["association_id"]) in numbers]


@operation("GET", "slurmdb", "associations", "openapi_assocs_resp", query=ASSOCIATION_QUERY)
async def associations(call: Call) -> Values:
    """关联"""
    rows = chosen_associations(call, await all_associations(call))
    return {"associations": await _association_records(call, rows)}


@operation("GET", "slurmdb", "association", "openapi_assocs_resp", query=ASSOCIATION_QUERY,
           empty="associations")  # fmt: skip
async def association(call: Call) -> Values:
    """一个关联：符合条件的头一个"""
    rows = chosen_associations(call, await all_associations(call))[:1]
    if not rows:
        call.warn("No association found for the given conditions")
    return {"associations": await _association_records(call, rows)}


@operation("GET", "slurmdb", "qos", "openapi_slurmdbd_qos_resp",
           query="description:string id:string name:string preempt_mode:string with_deleted:string")  # fmt: skip
async def qos(call: Call) -> Values:
    """全部 QOS"""
    rows = _pick(await qos_services.list_qos(call.database), "name", _wanted(call, "name"))
    numbers = _wanted(call, "id")
    rows = [row for row in rows if not numbers or str(shapes.stable_id(row["name"])) in numbers]
    return {"qos": [shapes.qos_record(call.version, row) for row in rows]}


@operation("GET", "slurmdb", "qos/{qos}", "openapi_slurmdbd_qos_resp", empty="qos",
           query="with_deleted:string")  # fmt: skip
async def one_qos(call: Call) -> Values:
    """一个 QOS"""
    rows = await qos_services.list_qos(call.database, call.argument)
    return {"qos": [shapes.qos_record(call.version, row) for row in rows]}


@operation("GET", "slurmdb", "tres", "openapi_tres_resp")
async def tres(call: Call) -> Values:
    """有哪些 TRES"""
    totals = shapes.tres_totals(await list_nodes(call.parts.engine))
    return {"TRES": shapes.tres_records(call.version, totals)}


async def _cluster(call: Call) -> dict[str, Any]:
    nodes = await list_nodes(call.parts.engine)
    host, port = call.request.url.hostname or "", call.request.url.port or 0
    names = compress(node["name"] for node in nodes)
    return shapes.cluster_record(call.version, names, host, port, shapes.tres_totals(nodes))


@operation("GET", "slurmdb", "clusters", "openapi_clusters_resp", query="update_time:string")
async def clusters(call: Call) -> Values:
    """集群：只有一个"""
    return {"clusters": [await _cluster(call)]}


@operation("GET", "slurmdb", "cluster/{cluster_name}", "openapi_clusters_resp", empty="clusters")
async def cluster(call: Call) -> Values:
    """一个集群"""
    if call.argument != cluster_name():
        raise NotFound(f"Unable to find cluster {call.argument[:64]}", code="cluster_not_found")
    return {"clusters": [await _cluster(call)]}


@operation("GET", "slurmdb", "wckeys", "openapi_wckey_resp", query="name:string user:string cluster:string")
async def wckeys(call: Call) -> Values:
    """wckey：这里是作业上的文字，不另外登记"""
    return {"wckeys": []}


@operation("GET", "slurmdb", "wckey/{id}", "openapi_wckey_resp", empty="wckeys")
async def wckey(call: Call) -> Values:
    """一个 wckey"""
    raise NotFound(f"Unable to find wckey {call.argument[:64]}", code="wckey_not_found")


@operation("GET", "slurmdb", "instances", "openapi_instances_resp")
async def instances(call: Call) -> Values:
    """云主机的记录：没有"""
    return {"instances": []}


@operation("GET", "slurmdb", "instance", "openapi_instances_resp")
async def instance(call: Call) -> Values:
    """一台云主机的记录：没有"""
    return {"instances": []}


@operation("GET", "slurmdb", "config", "openapi_slurmdbd_config_resp")
async def config(call: Call) -> Values:
    """整个记账配置"""
    found: dict[str, Any] = {}
    for part in (accounts, users, associations, qos, tres, clusters, wckeys, instances):
        found.update(await part(call))  # type: ignore[arg-type]
    return {("tres" if key == "TRES" else key): value for key, value in found.items()}


@operation("GET", "slurmdb", "ping", "openapi_slurmdbd_ping_resp", since=42)
async def ping(call: Call) -> Values:
    """记账在不在：答得出这一句，数据库就在"""
    await services.list_accounts(call.database, "root")
    host = call.request.url.hostname or ""
    values = {"hostname": host, "responding": True, "latency": 0, "primary": True}
    return {"pings": [render("slurmdbd_ping", call.version, values)]}


@operation("GET", "slurmdb", "diag", "openapi_slurmdbd_stats_resp")
async def diag(call: Call) -> Values:
    """slurmdbd 的统计：记账直接写数据库，没有汇总的周期"""
    return {"statistics": render("stats_rec", call.version, {})}
