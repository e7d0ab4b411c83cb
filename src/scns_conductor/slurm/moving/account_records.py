"""记账的记录（账户、用户、QOS 的选项）-> cluster.yaml 的内容；sacctmgr 的选项怎样读只有一处（sacctmgr_words）。"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scns_conductor.core.accounting import NORMAL_QOS, ROOT_ACCOUNT
from scns_conductor.core.tres import parse_tres
from scns_conductor.core.units import UNLIMITED_WORDS, parse_duration
from scns_conductor.slurm.accounting.sacctmgr_words import SETTABLE, changes_of, option_named, words_of
from scns_conductor.slurm.moving.findings import Findings, Place
from scns_conductor.slurm.session import Fatal

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}")
_MOST = 2**31 - 1
_WCKEYS = frozenset({"wckeys", "defaultwckey", "wckey"})
# 只说明集群、没有用处的选项。
_IGNORED = frozenset({"classification", "rawusage", "id", "cluster", "lft", "rgt", "depth"})


@dataclass(slots=True)
class AccountRecords:
    """读到的各个对象，键是名字；关联的键是（账户、用户、分区）。"""

    findings: Findings
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    associations: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    qos: dict[str, dict[str, Any]] = field(default_factory=dict)
    coordinators: dict[str, list[str]] = field(default_factory=dict)

    def named(self, place: Place, name: str) -> bool:
        """名字写得进来。"""
        if _NAME.fullmatch(name):
            return True
        self.findings.add(place, name, "名字只能有字母、数字与 _ . @ -")
        return False

    def options(self, place: Place, entity: str, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """各个选项 -> API 的字段；读不了的记下。"""
        found: dict[str, Any] = {}
        for name, value in pairs:
            low = name.lower().replace(" ", "")
            if value == "" or low in _IGNORED:
                continue
            option = option_named(entity, low)
            if option is None:
                reason = "工作负载标签不用登记" if low in _WCKEYS else "没有对应的"
                self.findings.add(place, f"{name}={value}", reason)
                continue
            known = SETTABLE[entity].get(option)
            if known is not None and known.kind == "tres":
                value = self._known_tres(place, name, value)
            if known is not None and known.kind == "wall" and _no_limit(value):
                continue
            if value == "":
                continue
            try:
                changes = changes_of(entity, [(option, "=", value)])
            except (Fatal, ValueError, OverflowError):
                reason = "没有 Fairshare=parent：份额写成数" if value.lower() == "parent" else "值不对或这里没有"
                self.findings.add(place, f"{name}={value}", reason)
                continue
            if any(isinstance(each, int | float) and not 0 <= each <= _MOST for each in changes.values()):
                self.findings.add(place, f"{name}={value}", "值不对或这里没有")
                continue
            for column, each in changes.items():
                kept = {tres: n for tres, n in each.items() if n is not None} if isinstance(each, dict) else each
                if kept is not None:
                    found[column] = {**found.get(column, {}), **kept} if isinstance(kept, dict) else kept
        return found

    def _known_tres(self, place: Place, name: str, value: str) -> str:
        known = []
        for item in words_of(value):
            try:
                parse_tres(item)
                known.append(item)
            except ValueError:
                self.findings.add(place, f"{name}={item}", "没有这种 TRES")
        return ",".join(known)

    def absorb(self, other: "AccountRecords") -> None:
        """并入另一份；同名的后一份补上前一份。"""
        for mine, theirs in (
            (self.accounts, other.accounts), (self.users, other.users), (self.qos, other.qos),
        ):  # fmt: skip
            for name, values in theirs.items():
                mine.setdefault(name, {}).update(values)
        self.associations |= other.associations
        for account, users in other.coordinators.items():
            self.coordinators.setdefault(account, []).extend(users)

    def content(self) -> dict[str, Any]:
        """cluster.yaml 的那几节。提到而没有写的 QOS 只建名字，账户接在 root 下面。"""
        for values in (*self.accounts.values(), *self.associations.values(), *self.qos.values()):
            for name in (*(values.get("qos") or ()), *(values.get("preempt") or ()), values.get("default_qos")):
                if name and name != NORMAL_QOS:
                    self.qos.setdefault(name, {})
        for account, user, _ in self.associations:
            self.accounts.setdefault(account, {})
            self.users.setdefault(user, {})
        for values in list(self.accounts.values()):
            if values.get("parent"):
                self.accounts.setdefault(values["parent"], {})
        for account, users in self.coordinators.items():
            kept = [user for user in dict.fromkeys(users) if user in self.users]
            if account in self.accounts and kept:
                self.accounts[account]["coordinators"] = kept
        if self.accounts:
            self.accounts.setdefault(ROOT_ACCOUNT, {}).pop("parent", None)
        for name, values in list(self.users.items()):
            own = [account for account, user, _ in self.associations if user == name]
            if not own:
                del self.users[name]
            elif values.get("default_account") not in own:
                values.pop("default_account", None)
        found = {
            "qos": [{"name": name, **values} for name, values in self.qos.items()],
            "accounts": [{"name": name, **values} for name, values in self.accounts.items()],
            "users": [{"name": name, **values} for name, values in self.users.items()],
            "associations": [
                {"account": account, "user": user, **({"partition": partition} if partition else {}), **values}
                for (account, user, partition), values in self.associations.items()
            ],
        }
        return {name: value for name, value in found.items() if value}


def _no_limit(value: str) -> bool:
    """不限的，与 0 分钟的（多半是写错了，Slurm 里谁也跑不了）不写。"""
    if value.upper() in UNLIMITED_WORDS:
        return True
    try:
        return parse_duration(value) == 0
    except ValueError:
        return False
