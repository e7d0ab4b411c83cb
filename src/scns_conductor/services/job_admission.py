"""提交时核对记账：补上缺省的账户与 QOS，该拒绝的当场拒绝；要数的上限在写下作业的同一个事务里数。"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.accounting import Accounting
from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.core.job_limits import (
    DENY_ON_LIMIT,
    REQUIRES_RESERVATION,
    Owner,
    SubmitLimit,
    demand_of_row,
    never_fits,
    submit_limits,
    violation,
)
from scns_conductor.core.settings import Settings
from scns_conductor.statements.submit_limits import COUNT_LIVE_TASKS, LOCK_LIMIT

SUBMIT_LIMITS = "submit_limits"


@dataclass(frozen=True, slots=True)
class Admission:
    """此刻的记账与要核对什么。"""

    accounting: Accounting
    settings: Settings

    def _enforced(self, word: str) -> bool:
        return word in self.settings.accounting_storage_enforce

    def admit(self, row: dict[str, Any], given: Collection[str], prefix: str = "") -> None:
        """补上 account、qos 与（没有写时的）time_limit，核对；不许的抛 InvalidRequest 或 Conflict。

        要在写下作业时数的上限记在 row[SUBMIT_LIMITS]。given 是请求里写了的字段，字段名前加 prefix。
        """
        accounting = self.accounting
        if row["account"] is None:
            row["account"] = accounting.default_accounts.get(row["user_name"])
        owner = self._owner(row, prefix)
        if not self._enforced("limits"):
            return
        most = _max_wall(owner)
        if most is not None and "time_limit" not in given and (row["time_limit"] is None or row["time_limit"] > most):
            row["time_limit"] = most
        self._check_limits(owner, row)
        limits = submit_limits(owner)
        if limits:
            row[SUBMIT_LIMITS] = limits

    def recheck(self, row: Mapping[str, Any], *, admin: bool) -> None:
        """改了账户、QOS、分区、时限或大小之后再核对一遍；不许的抛 InvalidRequest 或 Conflict。

        管理员改的只核对有没有这个关联与 QOS，不看上限（Slurm 也是）。
        """
        owner = self._owner(dict(row), "")
        if self._enforced("limits") and not admin:
            self._check_limits(owner, row)

    def _owner(self, row: dict[str, Any], prefix: str) -> Owner:
        accounting = self.accounting
        account, user = row["account"], row["user_name"]
        association = accounting.find(account, user, row["partition"].split(",")[0])
        if association is None and self._enforced("associations"):
            where = "没有写账户，也没有缺省账户" if account is None else f"用户 {user} 不在账户 {account} 里"
            raise InvalidRequest(
                f"{prefix}account", f"{where}；请管理员用 sacctmgr add user 加进去", code="account_unknown"
            )
        if row["qos"] is None and association is not None:
            row["qos"] = accounting.default_qos(association)
        name = row["qos"]
        qos = None if name is None else accounting.qos.get(name)
        if name is not None and qos is None and (self._enforced("qos") or self._enforced("limits")):
            known = "、".join(sorted(accounting.qos))
            raise InvalidRequest(f"{prefix}qos", f"没有 QOS {name!r}；现有 {known}", code="qos_unknown")
        if qos is not None and self._enforced("qos"):
            if association is not None and not accounting.allows(association, qos.name):
                allowed = "、".join(accounting.effective(association).qos or ()) or "（没有）"
                raise InvalidRequest(
                    f"{prefix}qos", f"{association.key} 不许用 QOS {qos.name}；许用 {allowed}", code="qos_unknown"
                )
            if REQUIRES_RESERVATION in qos.flags and not row["reservation"]:
                raise InvalidRequest(f"{prefix}qos", f"QOS {qos.name} 只能在预留里用；请写明预留", code="qos_unknown")
        return Owner(accounting, association, qos, user, account)

    def _check_limits(self, owner: Owner, row: Mapping[str, Any]) -> None:
        if owner.qos is None or DENY_ON_LIMIT not in owner.qos.flags:
            return
        demand = demand_of_row(row, self.settings.default_memory_mb_per_cpu)
        found = violation(owner, demand) or never_fits(owner, demand)
        if found is not None:
            raise Conflict(f"{found.message}（{found.reason}）；请要得少些", code="accounting_policy")


def _max_wall(owner: Owner) -> int | None:
    if owner.qos is not None and owner.qos.max_wall is not None:
        return owner.qos.max_wall
    return None if owner.association is None else owner.accounting.effective(owner.association).max_wall


async def reserve_submissions(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> dict[int, Conflict]:
    """数一遍：按次序写下 rows，哪些（下标 -> 错误）会超过提交数的上限，不能写。在写下作业的事务里、写之前调用。"""
    limits = {limit.name: limit for row in rows for limit in row.get(SUBMIT_LIMITS) or ()}
    used: dict[str, int] = {}
    for name in sorted(limits):
        limit = limits[name]
        await connection.execute(LOCK_LIMIT, {"name": name})
        values = {
            "accounts": None if limit.accounts is None else list(limit.accounts),
            "user": limit.user,
            "qos": limit.qos,
        }
        used[name] = (await connection.execute(COUNT_LIVE_TASKS, values)).scalar_one()
    refused: dict[int, Conflict] = {}
    for index, row in enumerate(rows):
        more = _tasks(row)
        own: Sequence[SubmitLimit] = row.get(SUBMIT_LIMITS) or ()
        full = next((limit for limit in own if used[limit.name] + more > limit.most), None)
        if full is not None:
            refused[index] = Conflict(
                f"排队与运行的作业至多 {full.most} 个（{full.name}），已有 {used[full.name]} 个；等一些结束了再提交",
                code="accounting_policy",
            )
            continue
        for limit in own:
            used[limit.name] += more
    return refused


def _tasks(row: Mapping[str, Any]) -> int:
    spans: Iterable[Any] | None = row.get("array_remaining")
    return 1 if spans is None else sum(span.upper - span.lower for span in spans)
