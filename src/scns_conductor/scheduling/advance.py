"""预留（scontrol create reservation）：一段时间里，一些节点与许可证只给指定的用户与账户。纯计算。

计划里为受阻作业保留的资源叫 planner.Reservation；这里的是管理员事先定下的。
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scns_conductor.scheduling.shape import BoolArray


@dataclass(frozen=True, slots=True)
class AdvanceReservation:
    """[start, end) 是 Unix 秒；nodes 为 None 是全部节点，空的是不占节点（只有许可证）。

    users、accounts 都空表示谁也不许（维护）。later 是重复的预留以后的各次，从早到晚。
    licenses 是（许可证的池，数目）。flex 的作业可以早到、晚走，节点在里在外都行；
    magnetic 的自己把许用的人没有指名的作业吸进来。cores 是按核留的：(节点, 几个 CPU)；空的是整个节点。
    """

    name: str
    start: float
    end: float
    nodes: frozenset[str] | None = None
    users: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    licenses: tuple[tuple[str, int], ...] = ()
    later: tuple[tuple[float, float], ...] = ()
    maintenance: bool = False
    flex: bool = False
    magnetic: bool = False
    cores: tuple[tuple[str, int], ...] = ()

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """这一次与以后的各次。"""
        return ((self.start, self.end), *self.later)

    def allows(self, user: str, account: str | None) -> bool:
        """列了用户的看用户，列了账户的看账户，都列了要都符合（scontrol(1)）。"""
        if not self.users and not self.accounts:
            return False
        return (not self.users or user in self.users) and (not self.accounts or account in self.accounts)

    def overlaps(self, start: float, end: float) -> bool:
        """与 [start, end) 有没有相交。"""
        return any(begin < end and start < until for begin, until in self.spans)

    def mask(self, index: Mapping[str, int], count: int) -> BoolArray:
        """它的节点。"""
        if self.nodes is None:
            return np.ones(count, dtype=np.bool_)
        found = np.zeros(count, dtype=np.bool_)
        for name in self.nodes:
            if name in index:
                found[index[name]] = True
        return found


@dataclass(frozen=True, slots=True)
class Refusal:
    """现在还不能在预留里运行；wake_at 是到时要再看的时刻。"""

    message: str
    wake_at: float | None = None


def refusal(
    reservations: Mapping[str, AdvanceReservation],
    name: str,
    user: str,
    account: str | None,
    limit_s: float | None,
    now: float,
) -> Refusal | None:
    """要用预留 name 的作业此刻为什么不能启动；能则为 None。"""
    found = reservations.get(name)
    if found is None or found.end <= now:
        return Refusal(f"预留 {name} 不存在或已经结束；请用 scns update 去掉它")
    if not found.allows(user, account):
        return Refusal(f"预留 {name} 不许用户 {user}（账户 {account or '没有写'}）使用")
    if found.flex:
        return None
    if found.start > now:
        return Refusal(f"预留 {name} 还没有开始", found.start)
    if limit_s is None or now + limit_s > found.end:
        later = "，或等它的下一次" if found.later else ""
        return Refusal(f"预留 {name} 的剩余时间比作业的时限短；请改短时限{later}")
    return None


@dataclass(frozen=True, slots=True)
class Admission:
    """进了哪个预留；roams 的节点在里在外都行；expires_at 是此后就放不下了的时刻（Unix 秒），没有是 None。"""

    name: str
    roams: bool = False
    expires_at: float | None = None


def admission(
    reservations: Mapping[str, AdvanceReservation],
    asked: Sequence[str],
    user: str,
    account: str | None,
    limit_s: float | None,
    now: float,
) -> Admission | Refusal | None:
    """此刻用得上的预留：指名的里第一个进得去的，没有指名的看有没有吸它的；都进不去是为什么；与预留无关是 None。"""
    refusals = []
    for name in asked or sorted(name for name, each in reservations.items() if each.magnetic):
        refused = refusal(reservations, name, user, account, limit_s, now)
        if refused is None:
            found = reservations[name]
            expires = None if found.flex or limit_s is None else found.end - limit_s
            return Admission(name, found.flex or not asked, expires)
        refusals.append(refused)
    if not asked:
        return None
    moments = [each.wake_at for each in refusals if each.wake_at is not None]
    return Refusal(refusals[0].message, min(moments, default=None))


def replenished(own: Sequence[str], bad: Collection[str], spare: Sequence[str]) -> list[str]:
    """坏了的（REPLACE 的还有被占用的）节点各换成 spare 里接下来的一个；没有得换的留着。"""
    left = iter([name for name in spare if name not in own])
    return [next(left, name) if name in bad else name for name in own]


def boundaries(reservations: Iterable[AdvanceReservation], now: float) -> list[float]:
    """今后的开始与结束时刻，从早到晚：到了就要再计划。"""
    moments = {moment for each in reservations for span in each.spans for moment in span if now < moment < math.inf}
    return sorted(moments)
