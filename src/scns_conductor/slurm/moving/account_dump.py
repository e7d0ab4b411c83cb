"""sacctmgr dump 的文件（sacctmgr(1) 的 FLAT FILE）：读成记录，由系统写出。"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scns_conductor.core.accounting import ROOT_ACCOUNT
from scns_conductor.core.tres import format_tres
from scns_conductor.slurm.accounting.sacctmgr_words import SETTABLE, words_of
from scns_conductor.slurm.moving.account_records import AccountRecords
from scns_conductor.slurm.moving.findings import Findings, Place

_LINE = re.compile(r"^\s*(Cluster|Parent|Account|User|QOS)\s*-\s*'?([^':]*)'?\s*(?::(.*))?$", re.IGNORECASE)
# 选项之间的冒号；引号里的不算。
_OPTION = re.compile(r"((?:[^:']|'[^']*')+)")
_OF_USER = ("default_account", "admin_level")


def is_dump(text: str) -> bool:
    """是不是 dump 的文件。"""
    return any(_LINE.match(line) for line in text.splitlines()[:2000] if not line.lstrip().startswith("#"))


def read_dump(name: str, text: str, findings: Findings) -> AccountRecords:
    """读一个文件；写坏的行记下。"""
    records = AccountRecords(findings)
    parent = ROOT_ACCOUNT
    for number, line in enumerate(text.splitlines(), start=1):
        place, plain = Place(name, number), line.strip()
        if not plain or plain.startswith("#"):
            continue
        match = _LINE.match(plain)
        if match is None:
            findings.add(place, plain, "不是 Cluster、Parent、Account、User、QOS 的行")
            continue
        kind, who, rest = match[1].lower(), match[2].strip(), match[3] or ""
        if kind == "parent":
            parent = who or ROOT_ACCOUNT
            continue
        if kind != "cluster" and not records.named(place, who):
            continue
        _take(records, place, kind, who, parent, list(_pairs(rest)))
    return records


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for option in _OPTION.findall(text):
        name, _, value = option.partition("=")
        yield name.strip().rstrip("+"), value.strip().strip("'")


def _take(
    records: AccountRecords, place: Place, kind: str, who: str, parent: str, pairs: Sequence[tuple[str, str]]
) -> None:
    if kind == "cluster":
        records.accounts.setdefault(ROOT_ACCOUNT, {}).update(records.options(place, "cluster", pairs))
    elif kind == "qos":
        records.qos[who] = records.options(place, "qos", pairs)
    elif kind == "account":
        values = records.options(place, "account", pairs)
        if who != ROOT_ACCOUNT and records.named(place, parent):
            values["parent"] = parent
        records.accounts.setdefault(who, {}).update(values)
    else:
        special = {name.lower(): value for name, value in pairs}
        for account in words_of(special.get("coordinator", "")):
            records.coordinators.setdefault(account, []).append(who)
        partition = special.get("partition", "")
        kept = [(name, value) for name, value in pairs if name.lower() not in ("coordinator", "partition")]
        values = records.options(place, "user", kept)
        if "default_account" in values and not records.named(place, values["default_account"]):
            del values["default_account"]
        own = records.users.setdefault(who, {})
        own |= {column: values.pop(column) for column in _OF_USER if column in values}
        if records.named(place, parent) and (not partition or records.named(place, partition)):
            records.associations[parent, who, partition] = values


# ---- 写出 ----

_HEADER = """\
# To edit this file start with a cluster line for the new cluster
# Cluster - 'cluster_name':MaxTRESPerJob=node=50
# Followed by Accounts you want in this fashion (root is created by default)...
# Parent - 'root'
# Account - 'cs':MaxTRESPerJob=node=5:MaxJobs=4:MaxTRESMinsPerJob=cpu=20:FairShare=399:MaxWallDurationPerJob=40:\
Description='Computer Science':Organization='LC'
# Any of the options after a ':' can be left out and they can be in any order.
# If you want to add any sub accounts just list the Parent THAT HAS ALREADY
# BEEN CREATED before the account line in this fashion...
# Parent - 'cs'
# Account - 'test':MaxTRESPerJob=node=1:MaxJobs=1:MaxTRESMinsPerJob=cpu=1:FairShare=1:MaxWallDurationPerJob=1:\
Description='Test Account':Organization='Test'
# To add users to a account add a line like this after a Parent - 'line'
# User - 'lipari':MaxTRESPerJob=node=2:MaxJobs=3:MaxTRESMinsPerJob=cpu=4:FairShare=1:MaxWallDurationPerJob=1
"""
# 选项在文件里的名字与次序。
_WRITTEN = {
    "shares": "Fairshare", "grp_jobs": "GrpJobs", "grp_submit_jobs": "GrpSubmitJobs", "grp_tres": "GrpTRES",
    "grp_tres_mins": "GrpTRESMins", "grp_tres_run_mins": "GrpTRESRunMins", "grp_wall": "GrpWall",
    "max_jobs": "MaxJobs", "max_submit_jobs": "MaxSubmitJobs", "max_tres_per_job": "MaxTRESPerJob",
    "max_tres_per_node": "MaxTRESPerNode", "max_tres_mins_per_job": "MaxTRESMinsPerJob",
    "max_wall": "MaxWallDurationPerJob", "priority": "Priority", "default_qos": "DefaultQOS", "qos": "QOS",
    "comment": "Comment",
}  # fmt: skip
assert set(_WRITTEN) == {option.column for option in SETTABLE["association"].values()}


def write_dump(
    cluster: str,
    accounts: Sequence[Mapping[str, Any]],
    users: Sequence[Mapping[str, Any]],
    associations: Sequence[Mapping[str, Any]],
) -> str:
    """一个集群的账户树；上级在下级之前（load 要这样）。各参数是 API 的行。"""
    own = {row["account"]: row for row in associations if not row["user_name"]}
    levels = {row["name"]: row for row in users}
    children: dict[str, list[Mapping[str, Any]]] = {}
    for row in accounts:
        if row["parent"] is not None:
            children.setdefault(row["parent"], []).append(row)
    lines = [f"Cluster - '{cluster}'{_options(own[ROOT_ACCOUNT])}"]
    waiting = [ROOT_ACCOUNT]
    while waiting:
        name = waiting.pop(0)
        members = [row for row in associations if row["account"] == name and row["user_name"]]
        below = children.get(name, [])
        if not members and not below:
            continue
        lines.append(f"Parent - '{name}'")
        lines += [_user(row, levels[row["user_name"]]) for row in members]
        lines += [_account(row, own[row["name"]]) for row in below]
        waiting += [str(row["name"]) for row in below]
    return _HEADER + "\n".join(lines) + "\n"


def _user(row: Mapping[str, Any], user: Mapping[str, Any]) -> str:
    words = [f":Partition='{row['partition']}'" if row["partition"] else ""]
    if user.get("coordinates"):
        words.append(f":Coordinator='{','.join(user['coordinates'])}'")
    if user.get("default_account"):
        words.append(f":DefaultAccount='{user['default_account']}'")
    if user.get("admin_level", "None") != "None":
        words.append(f":AdminLevel='{user['admin_level']}'")
    return f"User - '{row['user_name']}'{''.join(words)}{_options(row)}"


def _account(row: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    texts = f":Description='{_plain(row['description'])}':Organization='{_plain(row['organization'])}'"
    return f"Account - '{row['name']}'{texts}{_options(own)}"


def _plain(text: str) -> str:
    """引号与换行在这种文件里写不了。"""
    return " ".join(text.replace("'", "`").split())


def _options(row: Mapping[str, Any]) -> str:
    found = []
    for column, title in _WRITTEN.items():
        value = row.get(column)
        if value is None or value in ({}, [], ""):
            continue
        if isinstance(value, Mapping):
            # 文件里的内存没有单位（MiB）。
            text = format_tres(dict(value), minutes=True)
        elif isinstance(value, list):
            text = f"'{','.join(value)}'"
        elif column in ("max_wall", "grp_wall"):
            text = str(-(-int(value) // 60))
        else:
            text = f"'{_plain(value)}'" if isinstance(value, str) else str(value)
        found.append(f":{title}={text}")
    return "".join(found)
