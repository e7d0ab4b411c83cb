"""记账的表的增删改（sacctmgr）；读在 accounting。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.api.routers.accounting import (
    AccountValues,
    AssociationValues,
    NewAccount,
    NewAssociation,
    NewQos,
    QosValues,
    UserUpdate,
)
from scns_conductor.core.errors import ConductorError, InvalidRequest, NotFound
from scns_conductor.services import account_users
from scns_conductor.services import accounts as services
from scns_conductor.services import qos as qos_services
from scns_conductor.services.associations import create_association, delete_association, update_association
from scns_conductor.slurm.shapes import accounts as shapes
from scns_conductor.slurm.table.job_values import cluster_name
from scns_conductor.slurmrestd.accounting import ASSOCIATION_QUERY, Rows, all_associations, chosen_associations
from scns_conductor.slurmrestd.operations import Call, Values, operation

_NOT_SUPPORTED = "not_updatable"
_OWN_COLUMNS = ("description", "organization")


def _refuse(what: str) -> ConductorError:
    return InvalidRequest("body", f"不支持{what}", code=_NOT_SUPPORTED)


async def _known(call: Call) -> tuple[set[str], set[str], dict[tuple[str, str, str], int]]:
    engine = call.database
    accounts = {row["name"] for row in await services.list_accounts(engine)}
    users = {row["name"] for row in await account_users.list_users(engine)}
    found = {
        (row["account"], row["user_name"], row["partition"]): row["association_id"]
        for row in await all_associations(call)
    }
    return accounts, users, found


async def _save_accounts(call: Call, given: Rows) -> None:
    engine, identity = call.database, call.identity
    known = {row["name"] for row in await services.list_accounts(engine)}
    for each in given:
        own = {key: each[key] for key in _OWN_COLUMNS if each.get(key)}
        name = each.get("name", "")
        if name not in known:
            new = NewAccount.model_validate({**own, "name": name}).changes()
            await services.create_account(engine, identity, name, {k: v for k, v in new.items() if v is not None})
        elif own:
            await services.update_account(engine, identity, name, AccountValues.model_validate(own).changes())
        for coordinator in each.get("coordinators") or ():
            await account_users.set_coordinator(engine, identity, name, str(coordinator.get("name") or ""), on=True)


async def _save_users(call: Call, given: Rows) -> None:
    """用户随他的第一个关联而有：写了缺省账户的就加进去。"""
    engine, identity = call.database, call.identity
    _, known, associations = await _known(call)
    for each in given:
        name, default = each.get("name", ""), (each.get("default") or {}).get("account") or ""
        if default and (default, name, "") not in associations:
            values = NewAssociation.model_validate({"account": default, "user": name}).changes()
            await create_association(engine, identity, default, name, "", values)
        elif name not in known and not default:
            raise InvalidRequest("users", f"用户 {name[:64]} 还没有关联；写明 default.account", code="account_unknown")
        level = next(iter(each.get("administrator_level") or ()), None)
        wanted = {"default_account": default or None, "admin_level": None if level == "Not Set" else level}
        changes = {key: value for key, value in wanted.items() if value}
        if changes:
            checked = UserUpdate.model_validate(changes).model_dump(exclude_unset=True)
            await account_users.update_user(engine, identity, name, checked)


async def _save_association(
    call: Call, account: str, user: str, partition: str, values: Mapping[str, Any], numbers: Mapping[Any, int]
) -> None:
    engine, identity = call.database, call.identity
    number = numbers.get((account, user, partition))
    if number is not None:
        changes = AssociationValues.model_validate(values).changes()
        if changes:
            await update_association(engine, identity, number, changes)
        return
    if not user:
        raise InvalidRequest("account", f"没有账户 {account[:64]!r}；先新建它", code="account_unknown")
    new = NewAssociation.model_validate(
        {**values, "account": account, "user": user, **({"partition": partition} if partition else {})}
    ).changes()
    kept = {key: value for key, value in new.items() if value is not None}
    await create_association(engine, identity, account, user, partition, kept)


async def _save_associations(call: Call, given: Rows) -> None:
    _, _, numbers = await _known(call)
    for each in given:
        account, user, partition = (each.get(key) or "" for key in ("account", "user", "partition"))
        await _save_association(call, account, user, partition, shapes.association_changes(each), numbers)
        parent = each.get("parent_account")
        if parent and not user and account != "root":
            changes = AccountValues.model_validate({"parent": parent}).changes()
            await services.update_account(call.database, call.identity, account, changes)


async def _save_qos(call: Call, given: Rows) -> None:
    engine, identity = call.database, call.identity
    known = {row["name"] for row in await qos_services.list_qos(engine)}
    for each in given:
        name, values = each.get("name", ""), shapes.qos_changes(each)
        if name in known:
            changes = QosValues.model_validate(values).changes()
            if changes:
                await qos_services.update_qos(engine, identity, name, changes)
            continue
        new = NewQos.model_validate({**values, "name": name}).changes()
        await qos_services.create_qos(engine, identity, name, {k: v for k, v in new.items() if v is not None})


@operation("POST", "slurmdb", "accounts", body="openapi_accounts_resp", source="slurmdb_accounts_add")
async def save_accounts(call: Call) -> Values:
    """新建或修改账户"""
    await _save_accounts(call, call.body["accounts"])
    return {}


@operation("POST", "slurmdb", "users", body="openapi_users_resp", source="slurmdb_users_add")
async def save_users(call: Call) -> Values:
    """新建或修改用户"""
    await _save_users(call, call.body["users"])
    return {}


@operation("POST", "slurmdb", "associations", body="openapi_assocs_resp", source="slurmdb_associations_add")
async def save_associations(call: Call) -> Values:
    """新建或修改关联"""
    await _save_associations(call, call.body["associations"])
    return {}


@operation("POST", "slurmdb", "qos", body="openapi_slurmdbd_qos_resp", source="slurmdb_qos_add")
async def save_qos(call: Call) -> Values:
    """新建或修改 QOS"""
    await _save_qos(call, call.body["qos"])
    return {}


@operation("POST", "slurmdb", "config", body="openapi_slurmdbd_config_resp", source="slurmdb_config_set")
async def save_config(call: Call) -> Values:
    """写整个记账配置：有的改，没有的新建，不删"""
    body = call.body
    for key in ("clusters", "tres", "wckeys", "instances"):
        if body.get(key):
            call.warn(f'"{key}" cannot be changed on this system and is ignored')
    await _save_qos(call, body.get("qos") or [])
    await _save_accounts(call, body.get("accounts") or [])
    await _save_associations(call, body.get("associations") or [])
    await _save_users(call, body.get("users") or [])
    return {}


@operation("POST", "slurmdb", "accounts_association", "openapi_accounts_add_cond_resp_str",
           body="openapi_accounts_add_cond_resp", source="slurmdb_accounts_add_cond")  # fmt: skip
async def add_accounts(call: Call) -> Values:
    """一次新建几个账户与它们的关联"""
    condition = call.body.get("association_condition") or {}
    own = call.body.get("account") or {}
    given = condition.get("association") or {}
    values = {**shapes.association_set(given), **({"parent": given["parent"]} if given.get("parent") else {})}
    values |= {key: own[key] for key in _OWN_COLUMNS if own.get(key)}
    names = condition.get("accounts") or []
    for name in names:
        new = NewAccount.model_validate({**values, "name": name}).changes()
        kept = {key: value for key, value in new.items() if value is not None}
        await services.create_account(call.database, call.identity, name, kept)
    return {"added_accounts": ",".join(names)}


@operation("POST", "slurmdb", "users_association", "openapi_users_add_cond_resp_str",
           body="openapi_users_add_cond_resp", source="slurmdb_users_add_cond")  # fmt: skip
async def add_users(call: Call) -> Values:
    """一次把几个用户加进几个账户"""
    condition, own = call.body.get("association_condition") or {}, call.body.get("user") or {}
    values = shapes.association_set(condition.get("association") or {})
    default = own.get("defaultaccount") or ""
    accounts = condition.get("accounts") or ([default] if default else [])
    if not accounts:
        raise InvalidRequest("association_condition.accounts", "写明加进哪些账户", code="account_unknown")
    _, _, numbers = await _known(call)
    names = condition.get("users") or []
    for name in names:
        for account in accounts:
            for partition in condition.get("partitions") or [""]:
                await _save_association(call, account, name, partition, values, numbers)
    level = own.get("adminlevel")
    await _save_users(
        call, [{"name": name, "default": {"account": default}, "administrator_level": level} for name in names]
    )
    return {"added_users": ",".join(names)}


@operation("DELETE", "slurmdb", "account/{account_name}", "openapi_accounts_removed_resp",
           source="slurmdb_accounts_remove", empty="removed_accounts")  # fmt: skip
async def remove_account(call: Call) -> Values:
    """删除账户与它的下级"""
    return {"removed_accounts": await services.delete_account(call.database, call.identity, call.argument)}


@operation("DELETE", "slurmdb", "user/{name}", source="slurmdb_users_remove")
async def remove_user(call: Call) -> Values:
    """删除用户的全部关联"""
    await account_users.delete_user(call.database, call.identity, call.argument)
    return {}


async def _remove(call: Call, rows: Rows) -> Values:
    removed = []
    for row in rows:
        await delete_association(call.database, call.identity, row["association_id"])
        removed.append(f"C = {cluster_name():<10} A = {row['account']:<20} U = {row['user_name']}")
    return {"removed_associations": removed}


def _removable(call: Call, rows: Rows) -> Rows:
    if not any(call.query(name) for name in ("account", "user", "partition", "id")):
        raise InvalidRequest("query", "写明条件：account、user、partition 或 id")
    found = chosen_associations(call, rows)
    if not found:
        raise NotFound("No association found for the given conditions", code="association_not_found")
    return found


@operation("DELETE", "slurmdb", "associations", "openapi_assocs_removed_resp", query=ASSOCIATION_QUERY,
           source="slurmdb_associations_remove", empty="removed_associations")  # fmt: skip
async def remove_associations(call: Call) -> Values:
    """删除符合条件的关联"""
    return await _remove(call, _removable(call, await all_associations(call)))


@operation("DELETE", "slurmdb", "association", "openapi_assocs_removed_resp", query=ASSOCIATION_QUERY,
           source="slurmdb_associations_remove", empty="removed_associations")  # fmt: skip
async def remove_association(call: Call) -> Values:
    """删除一个关联"""
    return await _remove(call, _removable(call, await all_associations(call))[:1])


@operation("DELETE", "slurmdb", "qos/{qos}", "openapi_slurmdbd_qos_removed_resp",
           source="slurmdb_qos_remove", empty="removed_qos")  # fmt: skip
async def remove_qos(call: Call) -> Values:
    """删除 QOS"""
    await qos_services.delete_qos(call.database, call.identity, call.argument)
    return {"removed_qos": [call.argument]}


@operation("POST", "slurmdb", "clusters", body="openapi_clusters_resp", source="slurmdb_clusters_add")
async def save_clusters(call: Call) -> Values:
    """集群只有一个，不能新建"""
    raise _refuse("新建或修改集群：一套系统是一个集群")


@operation("DELETE", "slurmdb", "cluster/{cluster_name}", "openapi_clusters_removed_resp",
           source="slurmdb_clusters_remove", empty="deleted_clusters")  # fmt: skip
async def remove_cluster(call: Call) -> Values:
    """集群只有一个，不能删除"""
    raise _refuse("删除集群：一套系统是一个集群")


@operation("POST", "slurmdb", "tres", body="openapi_tres_resp", source="slurmdb_tres_add")
async def save_tres(call: Call) -> Values:
    """TRES 由节点登记，不能新建"""
    raise _refuse("新建 TRES：它们由节点登记")


@operation("POST", "slurmdb", "wckeys", body="openapi_wckey_resp", source="slurmdb_wckeys_add")
async def save_wckeys(call: Call) -> Values:
    """wckey 不另外登记，不能新建"""
    raise _refuse("登记 wckey：它只是作业上的文字，提交时写了就有")


@operation("DELETE", "slurmdb", "wckey/{id}", "openapi_wckey_removed_resp", source="slurmdb_wckeys_remove",
           empty="deleted_wckeys")  # fmt: skip
async def remove_wckey(call: Call) -> Values:
    """wckey 不另外登记，不能删除"""
    raise _refuse("删除 wckey：它只是作业上的文字")
