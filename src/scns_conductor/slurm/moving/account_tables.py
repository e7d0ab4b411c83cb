"""sacctmgr show … -P 的表：关联、账户、用户、QOS，由列名认出是哪一种。"""

from scns_conductor.core.accounting import ROOT_ACCOUNT
from scns_conductor.slurm.accounting.sacctmgr_words import words_of
from scns_conductor.slurm.moving.account_records import AccountRecords
from scns_conductor.slurm.moving.findings import Findings, Place

_PARENT = ("parname", "parentname")
# 列 -> 选项；没有写的就是列名。
_OPTIONS = {"share": "fairshare", "descr": "description", "org": "organization", "defacct": "defaultaccount",
            "admin": "adminlevel", "grptresrunmin": "grptresrunmins"}  # fmt: skip
_KEYS = frozenset({"cluster", "account", "user", "partition", "name", "coordaccounts", *_PARENT})


def read_table(name: str, text: str, findings: Findings, records: AccountRecords) -> None:
    """读一张表进 records；认不出是哪一种的记下。"""
    lines = text.splitlines()
    header = lines[0].rstrip("|").split("|") if lines else []
    titles = [title.strip().lower().replace(" ", "") for title in header]
    kind = _kind(set(titles))
    if kind is None:
        findings.add(Place(name, 1), lines[0] if lines else "", "不是 sacctmgr dump，也不是 sacctmgr show … -P 的表")
        return
    for number, line in enumerate(lines[1:], start=2):
        place, values = Place(name, number), line.split("|")
        if len(values) == len(titles) + 1 and not values[-1]:
            values.pop()
        if not line.strip():
            continue
        if len(values) != len(titles):
            findings.add(place, line, f"应有 {len(titles)} 列，实有 {len(values)} 列")
            continue
        row = dict(zip(titles, (value.strip() for value in values), strict=True))
        pairs = [(_OPTIONS.get(title, title), value) for title, value in row.items() if title not in _KEYS]
        _take(records, place, kind, row, pairs)


def _kind(titles: set[str]) -> str | None:
    if "name" in titles and titles & {"maxtrespu", "usagefactor", "preemptmode", "gracetime"}:
        return "qos"
    if {"account", "user"} <= titles:
        return "association"
    if "user" in titles:
        return "user"
    return "account" if "account" in titles else None


def _take(records: AccountRecords, place: Place, kind: str, row: dict[str, str], pairs: list[tuple[str, str]]) -> None:
    name = row.get({"qos": "name", "user": "user"}.get(kind, "account"), "")
    if not records.named(place, name):
        return
    if kind == "qos":
        records.qos[name] = records.options(place, "qos", pairs)
    elif kind == "user":
        records.users.setdefault(name, {}).update(records.options(place, "user", pairs))
        for account in words_of(row.get("coordaccounts", "")):
            records.coordinators.setdefault(account, []).append(name)
    elif kind == "association" and row["user"]:
        if records.named(place, row["user"]):
            values = records.options(place, "association", pairs)
            records.associations[name, row["user"], row.get("partition", "")] = values
    else:
        entity = "account" if kind == "account" else "association"
        values = records.options(place, entity, pairs)
        parent = next((row[each] for each in _PARENT if row.get(each)), "")
        if parent and name != ROOT_ACCOUNT and records.named(place, parent):
            values["parent"] = parent
        records.accounts.setdefault(name, {}).update(values)
