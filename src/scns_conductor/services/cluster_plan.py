"""cluster.yaml 与现状的差别：要新建、修改、删除什么，次序怎样。纯函数；写错的一处处指出来。"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from scns_conductor.core.accounting import ROOT_ACCOUNT
from scns_conductor.core.errors import ConductorError, FieldError
from scns_conductor.core.hostlist import expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.services.cluster_content import (
    SECTIONS,
    TRES_COLUMNS,
    Content,
    Entry,
    Key,
    State,
    Values,
    is_built_in,
    shown,
    whole,
)
from scns_conductor.services.reservation_places import ALL_NODES
from scns_conductor.services.reservation_words import plain_flags

# 不删的节：节点由代理登记，用户随他的最后一个关联而去。
_KEPT = frozenset({"nodes", "users"})


@dataclass(frozen=True, slots=True)
class Change:
    """一处改动。before、after 是变了的列；新建只有 after，删除都没有。place 是文件里的位置，删除的是它那一节。"""

    action: Literal["create", "update", "delete"]
    section: str
    key: Key
    place: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


class Faults:
    """一处处的错误；有就一次都说。"""

    def __init__(self) -> None:
        self._found: list[FieldError] = []
        self._code = "invalid_field"

    def add(self, place: str, message: str, code: str) -> None:
        """记下一处。"""
        self._code = code if not self._found or code == self._code else "invalid_field"
        self._found.append(FieldError(place, message))

    def known(self, place: str, what: str, name: str, names: Collection[str], code: str) -> None:
        """没有这个名字就记下，说出最像的。"""
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            listed = "、".join(sorted(names)[:20]) or "（没有）"
            self.add(place, f"没有{what} {name!r}；" + (f"是不是 {near[0]}？" if near else f"现有 {listed}"), code)

    def settle(self) -> None:
        """有错就抛 422。"""
        if self._found:
            detail = "；".join(f"{each.field}：{each.message}" for each in self._found[:3])
            if len(self._found) > 3:
                detail += f"……共 {len(self._found)} 处"
            raise ConductorError(detail, self._code, 422, self._found[:100])


def plan(state: State, content: Content, *, prune: bool) -> list[Change]:
    """改动，照执行的次序：各节的新建与修改，再是删除。写错的抛 ConductorError（422），errors 里是各处。

    prune 时文件里写了的节，其中没有写的对象要删除。
    """
    faults = Faults()
    _check_repeated(content, faults)
    final = {name: _final(state, content, name, prune) for name in SECTIONS}
    _check_names(state, content, final, faults)
    order = _account_order(state, content, prune, faults)
    faults.settle()
    found = [change for name in SECTIONS for change in _section_changes(name, state, content, order)]
    if prune:
        found += [change for name in reversed(SECTIONS) for change in _deletions(name, state, content)]
    return found


def _final(state: State, content: Content, section: str, prune: bool) -> set[Key]:
    """办完之后这一节有哪些。"""
    there = {entry.key for entry in content.get(section, ())}
    if not prune or section not in content or section in _KEPT:
        return there | state[section].keys()
    return there | {key for key in state[section] if is_built_in(section, key)}


# ---- 核对 ----


def _check_repeated(content: Content, faults: Faults) -> None:
    for section, entries in content.items():
        seen: dict[Key, str] = {}
        for entry in entries:
            first = seen.setdefault(entry.key, entry.place)
            if first != entry.place:
                faults.add(entry.place, f"{shown(entry.key)} 与 {first} 重复", "duplicate_name")
        if section == "partitions":
            default = [entry for entry in entries if entry.values.get("is_default")]
            for entry in default[1:]:
                faults.add(
                    f"{entry.place}.is_default", f"缺省分区只能有一个，{default[0].place} 也是", "duplicate_name"
                )


def _check_names(state: State, content: Content, final: Mapping[str, set[Key]], faults: Faults) -> None:
    """提到的名字都要有：办完之后的。"""
    names = {section: {key[0] for key in keys} for section, keys in final.items()}
    registered = {key[0] for key in state["nodes"]}
    for section in ("qos", "accounts", "associations"):
        for entry in content.get(section, ()):
            for column in ("qos", "preempt"):
                for name in entry.values.get(column) or ():
                    faults.known(f"{entry.place}.{column}", " QOS ", name, names["qos"], "qos_unknown")
            if entry.values.get("default_qos"):
                place = f"{entry.place}.default_qos"
                faults.known(place, " QOS ", entry.values["default_qos"], names["qos"], "qos_unknown")
    for entry in content.get("nodes", ()):
        faults.known(f"{entry.place}.name", "节点", entry.key[0], registered, "node_unknown")
    for entry in content.get("associations", ()):
        name, _, partition = entry.key
        faults.known(f"{entry.place}.account", "账户", name, names["accounts"], "account_unknown")
        if partition and entry.key not in state["associations"]:
            faults.known(f"{entry.place}.partition", "分区", partition, names["partitions"], "partition_unknown")
    members = {(account, user) for account, user, _ in final["associations"] if account in names["accounts"]}
    users = {user for _, user in members}
    for entry in content.get("users", ()):
        user, account = entry.key[0], entry.values.get("default_account")
        faults.known(f"{entry.place}.name", "有关联的用户", user, users, "user_unknown")
        if account is not None and (account, user) not in members:
            own = {each for each, name in members if name == user}
            faults.known(f"{entry.place}.default_account", "他在其中的账户", account, own, "account_unknown")
    for entry in content.get("accounts", ()):
        for user in entry.values.get("coordinators") or ():
            faults.known(f"{entry.place}.coordinators", "有关联的用户", user, users, "user_unknown")
    _check_partitions(state, content, names, faults)


def _check_partitions(state: State, content: Content, names: Mapping[str, set[str]], faults: Faults) -> None:
    """分区提到的账户、QOS 从前不核对，所以只看改了的。"""
    known_nodes = {key[0] for key in state["nodes"]}
    for entry in content.get("partitions", ()):
        now = state["partitions"].get(entry.key, {})
        nodes = entry.values.get("nodes")
        if nodes is not None and nodes != now.get("nodes"):
            for name in _expanded(nodes, f"{entry.place}.nodes", faults):
                faults.known(f"{entry.place}.nodes", "节点", name, known_nodes, "node_unknown")
        lists = [("allow_qos", " QOS ", "qos")]
        if names["accounts"] != {ROOT_ACCOUNT}:
            lists += [("allow_accounts", "账户", "accounts"), ("deny_accounts", "账户", "accounts")]
        for column, what, section in lists:
            for name in entry.values.get(column) or ():
                if name not in (now.get(column) or ()):
                    faults.known(
                        f"{entry.place}.{column}", what, name, names[section], f"{section.rstrip('s')}_unknown"
                    )


def _expanded(nodes: str, place: str, faults: Faults) -> list[str]:
    try:
        return [] if nodes == ALL_NODES else expand(nodes)
    except ValueError as error:
        faults.add(place, str(error), "invalid_field")
        return []


def _account_order(state: State, content: Content, prune: bool, faults: Faults) -> list[Key]:
    """文件里的账户，上级在前：照这个次序搬，不会搬到自己的下级之下。"""
    entries = {entry.key[0]: entry for entry in content.get("accounts", ())}
    kept = {} if prune and "accounts" in content else {key[0]: row["parent"] for key, row in state["accounts"].items()}
    parents: dict[str, str | None] = {**kept, ROOT_ACCOUNT: None}
    for name, entry in entries.items():
        if name != ROOT_ACCOUNT:
            parents[name] = entry.values.get("parent") or ROOT_ACCOUNT
        elif entry.values.get("parent"):
            faults.add(f"{entry.place}.parent", "root 没有上级", "account_cycle")
    order: dict[str, None] = {ROOT_ACCOUNT: None}
    for name, entry in entries.items():
        chain: dict[str, None] = {}
        at: str | None = name
        while at is not None and at not in order:
            if at in chain:
                loop = [*list(chain)[list(chain).index(at) :], at]
                faults.add(f"{entry.place}.parent", f"上级成了环：{' → '.join(loop)}", "account_cycle")
                break
            chain[at] = None
            if at not in parents:
                break
            above = parents[at]
            if above is not None and above not in parents:
                where = entries[at].place if at in entries else entry.place
                if at == name:
                    faults.known(f"{where}.parent", "账户", above, parents.keys(), "account_unknown")
                break
            at = above
        order |= dict.fromkeys(reversed(chain))
    return [(name,) for name in order if name in entries]


# ---- 差别 ----


def _section_changes(section: str, state: State, content: Content, order: list[Key]) -> Iterator[Change]:
    entries = list(content.get(section, ()))
    if section == "accounts":
        by_key = {entry.key: entry for entry in entries}
        entries = [by_key[key] for key in order]
    for entry in entries:
        now = state[section].get(entry.key)
        if now is None:
            yield Change("create", section, entry.key, entry.place, after=dict(entry.values))
            continue
        before, after = _difference(section, entry, now)
        if after:
            yield Change("update", section, entry.key, entry.place, before, after)


def _difference(section: str, entry: Entry, now: Values) -> tuple[Values, Values]:
    wanted = whole(section, entry.key, entry.values)
    if section == "reservations":
        wanted = _settled(wanted, now)
    names = [name for name in wanted if not _same(name, now.get(name), wanted[name])]
    return {name: now.get(name) for name in names}, {name: wanted[name] for name in names}


def _settled(wanted: Values, now: Values) -> Values:
    """预留的几种写法换成比得了的：duration -> end_time；node_count 已经满足的、没有写节点的不比。

    core_count 已经满足的（几个核，一个核也许是几个 CPU），各节点留几个照现在的。
    """
    found = dict(wanted)
    cores = found.pop("core_count", None)
    if cores is not None:
        total, kept = sum(cores) if isinstance(cores, list) else cores, sum((now["node_cpus"] or {}).values())
        del found["node_cpus"]
        if wanted["partition"] is None:
            del found["partition"]
        elsewhere = "nodes" in found and not _same("nodes", now["nodes"], found["nodes"])
        if not kept or kept % total or elsewhere:
            found["core_count"] = cores
        else:
            found.pop("node_count", None)
    length = found.pop("duration", None)
    if length is not None:
        found["end_time"] = found["start_time"] + timedelta(seconds=length)
    found["flags"] = plain_flags(found["flags"])
    count = found.get("node_count")
    if count is not None:
        if wanted.get("partition") is None:
            found.pop("partition", None)
        if "nodes" not in found and count == len(expand(now["nodes"]) if now["nodes"] != ALL_NODES else ()):
            del found["node_count"]
    return found


def _same(name: str, now: Any, wanted: Any) -> bool:
    if isinstance(now, list) and isinstance(wanted, list):
        return sorted(now) == sorted(wanted)
    if name == "licenses" and isinstance(now, str) and isinstance(wanted, str):
        return bool(_licenses(now) == _licenses(wanted))
    if name == "nodes" and isinstance(now, str) and isinstance(wanted, str):
        return now == wanted or _same_nodes(now, wanted)
    return bool(now == wanted)


def _licenses(text: str) -> Any:
    try:
        return parse_licenses(text)
    except ValueError:
        return text


def _same_nodes(now: str, wanted: str) -> bool:
    if ALL_NODES in (now, wanted):
        return False
    try:
        return set(expand(now)) == set(expand(wanted))
    except ValueError:
        return False


def tres_changes(change: Change) -> Values:
    """服务按种合并 TRES：文件里没有的那几种要写明去掉。"""
    found = dict(change.after)
    for name in found.keys() & TRES_COLUMNS:
        gone = dict.fromkeys((change.before.get(name) or {}).keys() - (found[name] or {}).keys())
        found[name] = {**gone, **(found[name] or {})}
    return found


def _deletions(section: str, state: State, content: Content) -> Iterator[Change]:
    if section not in content or section in _KEPT:
        return
    there = {entry.key for entry in content[section]}
    gone = [
        key
        for key, row in state[section].items()
        if key not in there and not is_built_in(section, key) and row.get("state") != "ENDED"
    ]
    if section == "accounts":
        gone.sort(key=lambda key: -_depth(state, key[0]))
    for key in gone:
        yield Change("delete", section, key, section)


def _depth(state: State, name: str) -> int:
    depth, at = 0, state["accounts"].get((name,), {}).get("parent")
    while at is not None:
        depth, at = depth + 1, state["accounts"][(at,)]["parent"]
    return depth
