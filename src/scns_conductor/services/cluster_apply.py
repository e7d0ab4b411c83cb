"""scns apply：把 cluster.yaml 的内容变成现状，一个事务；dry_run 也真的做一遍，再撤销。

写表的都是各自的业务（分区、账户……）：这里只定次序，把它们的错误指到文件里的位置。
"""

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.answers.cluster import ClusterApplied, ClusterChange
from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import SharedTransaction
from scns_conductor.services import account_users, accounts, associations, partitions, qos, reservations
from scns_conductor.services.accounting_rules import require_operator
from scns_conductor.services.audit import record
from scns_conductor.services.cluster_content import COMPARED, NODE_TRAITS, Content, Key, State, shown
from scns_conductor.services.cluster_plan import Change, plan, tres_changes
from scns_conductor.services.cluster_state import read_state, shown_value
from scns_conductor.services.live_settings import read_settings
from scns_conductor.services.nodes import pin_nodes, require_admin
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.accounts import LOCK_ACCOUNTS
from scns_conductor.statements.cluster_settings import DELETE_SETTING, LOCK_APPLY, PUT_SETTING
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.reservations import LOCK_RESERVATIONS

_WITH_ACCOUNTS = frozenset({"accounts", "associations", "users"})


async def apply_content(
    engine: AsyncEngine,
    settings: Settings,
    identity: Identity,
    content: Content,
    *,
    prune: bool = False,
    dry_run: bool = False,
    expect: str | None = None,
) -> ClusterApplied:
    """返回改动与它们的指纹。expect 是先前 dry_run 得到的指纹：现在要做的不是那些了就抛 Conflict，什么也不做。

    写错的、做不成的（还有作业的账户……）抛 422，说明文件里的位置；权限不够抛 Forbidden。settings 是启动时的。
    """
    require_operator(identity, "改集群的配置")
    async with engine.begin() as connection:
        await connection.execute(LOCK_APPLY)
        if not _WITH_ACCOUNTS.isdisjoint(content):
            await connection.execute(LOCK_ACCOUNTS)
        if "reservations" in content:
            await connection.execute(LOCK_RESERVATIONS)
        state = await read_state(connection)
        changes = plan(state, content, prune=prune)
        answer: dict[str, list[ClusterChange]] = {"changes": [_told(change) for change in changes]}
        fingerprint = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()[:16]
        if expect is not None and expect != fingerprint:
            raise Conflict("看过之后集群又变了，现在要做的不是那些；请再看一遍", code="plan_changed")
        await _Builder(connection, identity, settings, state).perform(changes)
        if changes:
            await record(connection, identity, "cluster.apply", "cluster", after=answer)
        if dry_run:
            await connection.rollback()
    return {"changes": answer["changes"], "fingerprint": fingerprint, "applied": not dry_run}


def _told(change: Change) -> ClusterChange:
    # 次序要定：各个 API 进程算出的指纹才相同。
    order = {name: place for place, name in enumerate(COMPARED.get(change.section, ()))}
    names = sorted({*change.before, *change.after}, key=lambda name: (order.get(name, len(order)), name))
    return {
        "action": change.action,
        "section": change.section,
        "name": shown(change.key),
        "place": change.place,
        "fields": [
            {
                "name": name,
                "before": shown_value(name, change.before.get(name)),
                "after": shown_value(name, change.after.get(name)),
            }
            for name in names
        ],
    }


@contextlib.contextmanager
def _at(change: Change) -> Iterator[None]:
    """业务的错误指到文件里的位置。"""
    try:
        yield
    except InvalidRequest as error:
        column = error.errors[0].field
        place = f"{change.place}.{column}" if column in change.after else change.place
        raise InvalidRequest(place, error.errors[0].message, error.code) from error
    except (Conflict, NotFound) as error:
        what = "删除 " if change.action == "delete" else ""
        raise InvalidRequest(change.place, f"{what}{shown(change.key)}：{error.detail}", error.code) from error


@dataclass(frozen=True, slots=True)
class _Builder:
    """在一个事务里把改动做出来。"""

    connection: AsyncConnection
    identity: Identity
    settings: Settings
    state: State

    async def perform(self, changes: Sequence[Change]) -> None:
        """被删的预留与关联先走，别的照计划的次序。"""
        parts: dict[tuple[str, bool], list[Change]] = defaultdict(list)
        for change in changes:
            parts[change.section, change.action == "delete"].append(change)
        await self._settings(parts["settings", False], parts["settings", True])
        await self._nodes(parts["nodes", False])
        await self._qos(parts["qos", False])
        for change in parts["accounts", False]:
            await self._account(change)
        await self._associations(parts["associations", False])
        for change in parts["users", False]:
            with _at(change):
                await account_users.update_user(self._database, self.identity, change.key[0], change.after)
        for change in parts["accounts", False]:
            await self._coordinators(change)
        for change in parts["reservations", True]:
            with _at(change):
                await reservations.delete_reservation(self._database, self.identity, change.key[0])
        for change in parts["partitions", False]:
            await self._partition(change)
        await self._reservations(parts["reservations", False])
        for change in parts["partitions", True]:
            with _at(change):
                await partitions.delete_partition(self._database, self.identity, change.key[0])
        for change in parts["associations", True]:
            with _at(change):
                number = self.state["associations"][change.key]["association_id"]
                await associations.delete_association(self._database, self.identity, number)
        for change in parts["accounts", True]:
            with _at(change):
                await accounts.delete_account(self._database, self.identity, change.key[0])
        for change in parts["qos", True]:
            with _at(change):
                await qos.delete_qos(self._database, self.identity, change.key[0])

    @property
    def _database(self) -> SharedTransaction:
        return SharedTransaction(self.connection)

    async def _settings(self, changes: Sequence[Change], deletions: Sequence[Change]) -> None:
        if not changes and not deletions:
            return
        require_admin(self.identity, "改设置")
        for change in changes:
            values = {"name": change.key[0], "value": change.after["value"], "user": self.identity.user_name}
            await self.connection.execute(PUT_SETTING, values)
        for change in deletions:
            await self.connection.execute(DELETE_SETTING, {"name": change.key[0]})
        await tell_scheduler(self.connection, inbox_insert("settings"))

    async def _nodes(self, changes: Sequence[Change]) -> None:
        """写成一样的节点一条语句。"""
        groups: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
        for change in changes:
            traits: Mapping[str, Any] = {name: change.after[name] for name in NODE_TRAITS if name in change.after}
            groups.setdefault(json.dumps(traits), (traits, []))[1].append(change.key[0])
        for traits, names in groups.values():
            await pin_nodes(self.connection, self.identity, names, traits)

    async def _qos(self, changes: Sequence[Change]) -> None:
        """互相抢占的：都有了，再写谁抢占谁。"""
        later: list[tuple[Change, Mapping[str, Any]]] = []
        for change in changes:
            with _at(change):
                if change.action == "create":
                    first = {name: value for name, value in change.after.items() if name != "preempt"}
                    await qos.create_qos(self._database, self.identity, change.key[0], first)
                    later.append((change, {"preempt": change.after.get("preempt")}))
                else:
                    later.append((change, tres_changes(change)))
        for change, changed in later:
            if any(value is not None for value in changed.values()) or change.action == "update":
                with _at(change):
                    await qos.update_qos(self._database, self.identity, change.key[0], changed)

    async def _account(self, change: Change) -> None:
        with _at(change):
            values = {name: value for name, value in tres_changes(change).items() if name != "coordinators"}
            if change.action == "create":
                await accounts.create_account(self._database, self.identity, change.key[0], values)
            elif values:
                await accounts.update_account(self._database, self.identity, change.key[0], values)

    async def _coordinators(self, change: Change) -> None:
        """协调人要先有关联：账户与关联都好了再写。"""
        before, after = (set(each.get("coordinators") or ()) for each in (change.before, change.after))
        if "coordinators" not in change.after:
            return
        for user in sorted(before ^ after):
            with _at(change):
                on = user in after
                await account_users.set_coordinator(self._database, self.identity, change.key[0], user, on=on)

    async def _associations(self, changes: Sequence[Change]) -> None:
        new = [change for change in changes if change.action == "create"]
        rows = [
            {"account": change.key[0], "user_name": change.key[1], "partition": change.key[2], **change.after}
            for change in new
        ]
        if rows:
            # 账户与 QOS 有没有，计划时核对过了。
            await associations.add_associations(self.connection, self.identity, rows)
        for change in changes:
            if change.action == "update":
                number = self.state["associations"][change.key]["association_id"]
                with _at(change):
                    await associations.change_association(self.connection, self.identity, number, tres_changes(change))

    async def _partition(self, change: Change) -> None:
        with _at(change):
            if change.action == "create":
                values = {"name": change.key[0], **change.after}
                await partitions.create_partition(self._database, self.identity, values)
            else:
                await partitions.update_partition(self._database, self.identity, change.key[0], change.after)

    async def _reservations(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        # 许可证的总数也许就是这个文件改的。
        licenses = dict(parse_licenses((await read_settings(self._database, self.settings)).licenses))
        steps: list[tuple[Change, Mapping[str, Any]]] = [(change, change.after) for change in changes]
        if len(changes) > 1:
            # 几个预留对调节点、时间：都先许重叠地改好，再一个个写上自己的标志，那时才核对重叠。
            flags = {
                change.key: change.after.get("flags", self.state["reservations"].get(change.key, {}).get("flags", []))
                for change in changes
            }
            steps = [
                (change, {**change.after, "flags": [*flags[change.key], "OVERLAP"]})
                for change in sorted(changes, key=lambda change: change.action == "create")
            ] + [(change, {"flags": flags[change.key]}) for change in changes]
        made: set[Key] = set()
        for change, values in steps:
            with _at(change):
                name = change.key[0]
                if change.action == "create" and change.key not in made:
                    made.add(change.key)
                    row = {"name": name, **values}
                    await reservations.create_reservation(self._database, self.identity, row, licenses, over=True)
                else:
                    await reservations.update_reservation(self._database, self.identity, name, values, licenses)
