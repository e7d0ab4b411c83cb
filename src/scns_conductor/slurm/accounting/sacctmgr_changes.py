"""sacctmgr 的 add、modify、delete：先算出要说的话与要做的事，确认之后才做。"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scns_conductor.client import JsonClient
from scns_conductor.core.tres import format_tres
from scns_conductor.core.units import format_duration, parse_duration
from scns_conductor.slurm.accounting.sacctmgr_words import SETTABLE, Request, changes_of
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.table.job_values import cluster_name

_OF_ACCOUNT = frozenset({"description", "organization", "parent"})
_OF_USER = frozenset({"admin_level", "default_account"})


@dataclass(slots=True)
class Planned:
    """要打印的行，要做的事，退出码。"""

    lines: list[str] = field(default_factory=list)
    actions: list[Callable[[], object]] = field(default_factory=list)
    code: int = 0


def _nothing(text: str) -> Fatal:
    """没有事可做的那句话（Nothing …）写到标准输出，退出码 1；别的写到标准错误（同 sacctmgr）。"""
    if text.startswith(" Nothing"):
        print(text)
        return Fatal(prefix=None)
    return Fatal(text, prefix=None)


def _require_qos(client: JsonClient, values: Mapping[str, Any]) -> None:
    known = {row["name"] for row in client.qos()}
    default = values.get("default_qos")
    if default is not None and default not in known:
        raise _nothing(f"You gave a bad default qos '{default}'.  Use 'list qos' to get complete list.")
    for name in (*(values.get("qos") or ()), *(values.get("preempt") or ())):
        if name not in known:
            raise _nothing(f"You gave a bad qos '{name}'.  Use 'list qos' to get complete list.")


def _shown(column: str, value: Any) -> str:
    if value is None:
        return "NONE"
    if isinstance(value, Mapping):
        kept = {name: amount for name, amount in value.items() if amount is not None}
        return format_tres(kept, minutes="mins" in column) or "NONE"
    if isinstance(value, list):
        return ",".join(value)
    if column in ("max_wall", "grp_wall"):
        return format_duration(parse_duration(value) if isinstance(value, str) else value)
    if column == "preempt_exempt_time":
        return format_duration(value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _settings(entity: str, values: Mapping[str, Any], width: int, only: frozenset[str] | None = None) -> list[str]:
    lines = []
    for option in SETTABLE[entity].values():
        if option.column in values and (only is None or option.column in only):
            # sacctmgr 里只有这一行没有对齐。
            size = 15 if option.title == "MaxJobsPerUser" else width
            lines.append(f"  {option.title:<{size}}= {_shown(option.column, values[option.column])}")
    return lines


# ---- add ----


def add_account(client: JsonClient, request: Request) -> Planned:
    """sacctmgr add account。"""
    if not request.names:
        raise _nothing(" Need name of account to add.")
    values = changes_of("account", request.settings)
    for key in ("description", "organization", "parent"):
        if key in request.where:
            values[key] = " ".join(request.where[key])
    if "description" in values:
        values["description"] = values["description"].lower()
    known = {row["name"] for row in client.accounts()}
    parent = values.get("parent", "root")
    if parent not in known:
        raise Fatal(
            f" Parent account '{parent}' doesn't exist on cluster {cluster_name()}",
            "        Contact your admin to add this account.",
            " No associations created.",
            prefix=None,
        )
    fresh = [name for name in request.names if name not in known]
    if not fresh:
        raise _nothing(" Nothing new added.")
    _require_qos(client, values)
    planned = Planned([" Adding Account(s)", *(f"  {name}" for name in fresh), " Settings"])
    planned.lines.append(f"  Description     = {values.get('description', 'Account Name')}")
    planned.lines.append(f"  Organization    = {values.get('organization', 'Parent/Account Name')}")
    planned.lines.append(" Associations")
    planned.lines += [f"  A = {name:<10.10} C = {cluster_name():<10.10}" for name in fresh]
    limits = frozenset(values) - _OF_ACCOUNT
    if limits or "parent" in values:
        planned.lines.append(" Settings")
        planned.lines += _settings("account", values, 14, limits)
        planned.lines.append(f"  Parent        = {parent}")
    planned.actions = [lambda name=name: client.create_account({**values, "name": name}) for name in fresh]  # type: ignore[misc]
    return planned


def add_user(client: JsonClient, request: Request) -> Planned:
    """sacctmgr add user。"""
    if not request.names:
        raise _nothing(" Need name of user to add.")
    values = changes_of("user", request.settings)
    named_default = request.where.get("default_account") or []
    wanted_default = values.pop("default_account", None) or (named_default[0] if named_default else None)
    level = values.pop("admin_level", None)
    if level is None and "admin_level" in request.where:
        level = changes_of("user", [("adminlevel", "=", request.where["admin_level"][0])])["admin_level"]
    # 缺省账户也要有关联，不然定不成。
    accounts = list(dict.fromkeys([*([wanted_default] if wanted_default else []), *request.where.get("account", [])]))
    if not accounts:
        raise _nothing(" Need name of account to add user to.")
    known = {row["name"] for row in client.accounts()}
    for account in accounts:
        if account not in known:
            raise Fatal(
                f" This account '{account}' doesn't exist.",
                "        Contact your admin to add this account.",
                " No associations or wckeys created.",
                prefix=None,
            )
    _require_qos(client, values)
    users = {row["name"] for row in client.users()}
    existing = {(row["user_name"], row["account"], row["partition"]) for row in client.associations()}
    partitions = request.where.get("partition") or [""]
    fresh = [
        (user, account, partition)
        for user in request.names
        for account in accounts
        for partition in partitions
        if (user, account, partition) not in existing
    ]
    if not fresh:
        raise _nothing(" Nothing new added.")
    planned = Planned()
    added = [name for name in request.names if name not in users]
    if added:
        planned.lines += [" Adding User(s)", *(f"  {name}" for name in added)]
    if added and (level or wanted_default):
        planned.lines.append(" Settings =")
        if wanted_default:
            planned.lines.append(f"  Default Account = {wanted_default}")
        if level:
            planned.lines.append(f"  Admin Level     = {level}")
    planned.lines.append(" Associations =")
    for user, account, partition in fresh:
        tail = f" P = {partition:<10.10}" if partition else ""
        planned.lines.append(f"  U = {user:<9.9} A = {account:<10.10} C = {cluster_name():<10.10}{tail}")
    planned.lines.append(" Non Default Settings")
    planned.lines += _settings("user", values, 14)
    for user, account, partition in fresh:
        body = {**values, "account": account, "user": user, **({"partition": partition} if partition else {})}
        planned.actions.append(lambda body=body: client.create_association(body))  # type: ignore[misc]
    profile = {"admin_level": level, "default_account": wanted_default}
    profile = {name: value for name, value in profile.items() if value is not None}
    if profile:
        planned.actions += [lambda name=name: client.update_user(name, profile) for name in request.names]  # type: ignore[misc]
    return planned


def add_qos(client: JsonClient, request: Request) -> Planned:
    """sacctmgr add qos。"""
    if not request.names:
        raise _nothing(" Need name of qos to add.")
    values = changes_of("qos", request.settings)
    _require_qos(client, values)
    known = {row["name"] for row in client.qos()}
    fresh = [name for name in request.names if name not in known]
    if not fresh:
        raise _nothing(" Nothing new added.")
    planned = Planned([" Adding QOS(s)", *(f"  {name}" for name in fresh), " Settings"])
    planned.lines.append(f"  Description    = {values.get('description', fresh[0])}")
    planned.lines += _settings("qos", values, 25, frozenset(values) - {"description"})
    planned.actions = [lambda name=name: client.create_qos({**values, "name": name}) for name in fresh]  # type: ignore[misc]
    return planned


# ---- modify ----


def _require_settings(request: Request) -> None:
    if not request.settings:
        raise _nothing(" You didn't give me anything to set")


def _named(rows: Sequence[Mapping[str, Any]], request: Request) -> list[Mapping[str, Any]]:
    wanted = [*request.names, *request.where.get("name", [])]
    rest = {key: allowed for key, allowed in request.where.items() if key not in ("name", "cluster", "account",
                                                                                 "partition")}  # fmt: skip
    return [
        row
        for row in rows
        if (not wanted or row["name"] in wanted)
        and all(str(row.get(key) or "") in allowed for key, allowed in rest.items())
    ]


def modify_account(client: JsonClient, request: Request) -> Planned:
    """sacctmgr modify account。"""
    _require_settings(request)
    chosen = _named(client.accounts(), request)
    if not chosen:
        raise _nothing(" Nothing modified")
    planned = Planned()
    found = client.associations()
    about_account, about_limits = False, False
    for row in chosen:
        own = next(each for each in found if each["account"] == row["name"] and not each["user_name"])
        values = changes_of("account", request.settings, own)
        _require_qos(client, values)
        about_account |= bool(_OF_ACCOUNT & values.keys() - {"parent"})
        about_limits |= bool(values.keys() - _OF_ACCOUNT) or "parent" in values
        planned.actions.append(lambda name=row["name"], values=values: client.update_account(name, values))  # type: ignore[misc]
    if about_account:
        planned.lines += [" Modified accounts...", *(f"  {row['name']}" for row in chosen)]
    if about_limits:
        planned.lines.append(" Modified account associations...")
        for row in chosen:
            planned.lines.append(f"  C = {cluster_name():<10} A = {row['name']} of {row['parent'] or 'root'}")
    return planned


def modify_user(client: JsonClient, request: Request) -> Planned:
    """sacctmgr modify user。"""
    _require_settings(request)
    values = changes_of("user", request.settings)
    users = _named(client.users(), request)
    profile = {name: value for name, value in values.items() if name in _OF_USER}
    accounts, partitions = request.where.get("account"), request.where.get("partition")
    names = {row["name"] for row in users}
    chosen = [
        each
        for each in client.associations()
        if each["user_name"] in names
        and (not accounts or each["account"] in accounts)
        and (not partitions or each["partition"] in partitions)
    ]
    if not users or not chosen:
        raise _nothing(" Nothing modified")
    planned = Planned()
    default = profile.get("default_account")
    if default is not None:
        outside = [
            name
            for name in sorted(names)
            if not any(each["account"] == default for each in client.associations(user=name))
        ]
        if outside:
            raise Fatal(
                f" Can't modify because these users aren't associated with new default account '{default}'...",
                *(f"  U = {name} C = {cluster_name()}" for name in outside),
                prefix=None,
            )
    if profile:
        planned.lines += [" Modified users...", *(f"  {name}" for name in sorted(names))]
        planned.actions += [lambda name=name: client.update_user(name, profile) for name in sorted(names)]  # type: ignore[misc]
    limits = [item for item in request.settings if item[0] not in ("adminlevel", "defaultaccount")]
    if limits:
        planned.lines.append(" Modified user associations...")
    for each in chosen if limits else ():
        own = changes_of("user", limits, each)
        _require_qos(client, own)
        tail = f" P = {each['partition']}" if each["partition"] else ""
        planned.lines.append(f"  C = {cluster_name():<10} A = {each['account']:<20} U = {each['user_name']:<9}{tail}")
        planned.actions.append(
            lambda number=each["association_id"], own=own: client.update_association(number, own)  # type: ignore[misc]
        )
    return planned


def modify_qos(client: JsonClient, request: Request) -> Planned:
    """sacctmgr modify qos。"""
    _require_settings(request)
    chosen = _named(client.qos(), request)
    if not chosen:
        raise _nothing(" Nothing modified")
    planned = Planned([" Modified qos...", *(f"  {row['name']}" for row in chosen)])
    for row in chosen:
        values = changes_of("qos", request.settings, row)
        _require_qos(client, values)
        planned.actions.append(lambda name=row["name"], values=values: client.update_qos(name, values))  # type: ignore[misc]
    return planned


def add_cluster(_client: JsonClient, request: Request) -> Planned:
    """sacctmgr add cluster：一套系统就是一个集群，只能是已经有的那个。"""
    if request.names == [cluster_name()]:
        print(f" This cluster '{cluster_name()}' already exists.  Not adding.")
        raise Fatal(prefix=None)
    raise Fatal("add cluster is not supported by this system: one system is one cluster")


def modify_cluster(client: JsonClient, request: Request) -> Planned:
    """sacctmgr modify cluster：集群的上限就是根账户的。"""
    _require_settings(request)
    wanted = {*request.names, *request.where.get("name", []), *request.where.get("cluster", [])}
    if wanted and cluster_name() not in wanted:
        raise _nothing(" Nothing modified")
    root = next(row for row in client.associations(account="root", user="") if not row["user_name"])
    values = changes_of("cluster", request.settings, root)
    _require_qos(client, values)
    planned = Planned([" Modified cluster defaults for associations...", f"  {cluster_name()}"])
    planned.actions.append(lambda: client.update_account("root", values))
    return planned


# ---- delete ----


def _require_conditions(request: Request) -> None:
    if not request.names and not request.where:
        raise _nothing(" No conditions given to remove, not executing.")


def delete_account(client: JsonClient, request: Request) -> Planned:
    """sacctmgr delete account。"""
    _require_conditions(request)
    chosen = _named(client.accounts(), request)
    if not chosen:
        raise _nothing(" Nothing deleted")
    planned = Planned([" Deleting accounts...", *(f"  {row['name']}" for row in chosen)])
    parents = {row["name"]: row["parent"] for row in client.accounts()}
    names = {row["name"] for row in chosen}
    # 上级删了，下级也就没有了。
    tops = [name for name in sorted(names) if parents.get(name) not in names]
    planned.actions = [lambda name=name: client.delete_account(name) for name in tops]  # type: ignore[misc]
    return planned


def delete_user(client: JsonClient, request: Request) -> Planned:
    """sacctmgr delete user；写了账户的只移出那些账户。"""
    _require_conditions(request)
    users = {row["name"] for row in _named(client.users(), request)}
    accounts, partitions = request.where.get("account"), request.where.get("partition")
    if not accounts and not partitions:
        if not users:
            raise _nothing(" Nothing deleted")
        planned = Planned([" Deleting users...", *(f"  {name}" for name in sorted(users))])
        planned.actions = [lambda name=name: client.delete_user(name) for name in sorted(users)]  # type: ignore[misc]
        return planned
    chosen = [
        each
        for each in client.associations()
        if each["user_name"] in users
        and (not accounts or each["account"] in accounts)
        and (not partitions or each["partition"] in partitions)
    ]
    if not chosen:
        raise _nothing(" Nothing deleted")
    planned = Planned([" Deleting user associations..."])
    for each in chosen:
        tail = f" P = {each['partition']:<10}" if each["partition"] else ""
        planned.lines.append(f"  C = {cluster_name():<10} A = {each['account']:<10} U = {each['user_name']:<9}{tail}")
        planned.actions.append(
            lambda number=each["association_id"]: client.delete_association(number)  # type: ignore[misc]
        )
    return planned


def delete_qos(client: JsonClient, request: Request) -> Planned:
    """sacctmgr delete qos。"""
    _require_conditions(request)
    chosen = _named(client.qos(), request)
    if not chosen:
        raise _nothing(" Nothing deleted")
    planned = Planned([" Deleting QOS(s)...", *(f"  {row['name']}" for row in chosen)])
    planned.actions = [lambda name=row["name"]: client.delete_qos(name) for row in chosen]  # type: ignore[misc]
    return planned


PLANS: dict[tuple[str, str], Callable[[JsonClient, Request], Planned]] = {
    ("add", "account"): add_account,
    ("add", "user"): add_user,
    ("add", "qos"): add_qos,
    ("add", "cluster"): add_cluster,
    ("modify", "cluster"): modify_cluster,
    ("modify", "account"): modify_account,
    ("modify", "user"): modify_user,
    ("modify", "qos"): modify_qos,
    ("delete", "account"): delete_account,
    ("delete", "user"): delete_user,
    ("delete", "qos"): delete_qos,
}
