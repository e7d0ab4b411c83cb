"""说得出“至迟”的条件：作业提前结束、因而重新计划，预计的时刻也不会后移。纯函数。

照次序的计划里，前面的提前启动，换了地方，可能把后面的挤到更晚（Graham 的反常）。不会的只有：
前面没有与它争的；前面与它争的到它的时刻都已经做完；或与它一模一样——谁先谁后都一样，地方的总数不变。
等着上限、还没有轮到的没有保留，只有放它进来的那个作业让出的地方归它先挑。
"""

from collections.abc import Iterable
from dataclasses import dataclass

from scns_conductor.scheduling.attempt import facts_of
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import RunningJob
from scns_conductor.scheduling.feasibility import Kind
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.placement import unavailable_nodes
from scns_conductor.scheduling.plan import Reservation
from scns_conductor.scheduling.queue import Group, GroupKey, OrderKey
from scns_conductor.scheduling.shape import LICENSE, Shape

# 自己会过去的原因；别的（保留着、分区停了……）要人动手，人动手之前不算排在前面。
_PASSING = frozenset({None, "BeginTime", "Dependency", "Reservation"})


def limited(cluster: Cluster, shape: Shape, reason: str | None) -> bool:
    """reason 是它的一个上限满了（许可证不算：会为它保留）。"""
    reasons = cluster.pool_reasons
    return reason is not None and any(
        reasons.get(name) == reason and not name.startswith(LICENSE) for name, _ in shape.pools
    )


def contend(cluster: Cluster, other: Shape, own: Shape) -> bool:
    """两个要同样的节点；other 排在前面。"""
    inside, outside = cluster.secluded(own), cluster.secluded(other)
    # 在同一个预留里，或都不在预留里。
    same_place = own.reservation == other.reservation if inside and outside else inside == outside
    if not same_place or not (cluster.eligible(other) & cluster.eligible(own)).any():
        return False
    # 它等的是下线、排空的节点：现在的节点空出来也轮不到它。
    return unavailable_nodes(cluster, other) is None


@dataclass(frozen=True, slots=True)
class _Dated:
    """一个有时刻的：别人的保留，或要问的那个作业。"""

    key: OrderKey
    shape: Shape
    limit_s: float
    start: float


class Promise:
    """outlook 的作业若是 shape 与 limit_s（秒）这样的要求。"""

    def __init__(self, outlook: Outlook, shape: Shape, limit_s: float) -> None:
        self._outlook, self._cluster = outlook, outlook.cluster
        self._own, self._key = (shape, limit_s), outlook.job.key
        self._touching: dict[tuple[Shape, Shape], bool] = {}
        self._undated = self._blocked()
        self._loose = self._undated + [
            (job.key, (job.shape, job.time_limit_s)) for job in outlook.coming if job.reason in _PASSING
        ]
        self._kept = sorted(map(_dated, outlook.plan.reservations), key=lambda kept: kept.key)

    # ---- 问它的 ----

    def uncontested(self) -> bool:
        """排在前面的没有一个与它争。"""
        return not any(self._meet(key[0], self._own[0]) for key in self._ahead(self._loose))

    def reserved(self, start: float) -> bool:
        """它的保留（从 start 起）不会后移。"""
        outlook = self._outlook
        if outlook.incomplete or not outlook.promised or self._cluster.secluded(self._own[0]):
            # 在预留里面的没有保留。
            return False
        settled: list[tuple[_Dated, bool]] = []
        for kept in self._kept:
            settled.append((kept, self._settled(kept, settled)))
        return self._settled(_Dated(self._key, *self._own, start), settled)

    def inherited(self, holders: Iterable[RunningJob]) -> bool:
        """等 holders 里随便哪个让出来：让出的够它用，也没有人先挑。"""
        cluster, own = self._cluster, self._own
        need, kind = facts_of(cluster, Group(*own))
        if kind is Kind.GENERAL or cluster.reservations:
            return False
        # 排在前面、等同一个上限、一模一样的：一个接一个，都接得上。
        alike = [each for each in self._undated if each[1] == own]
        others = self._ahead([each for each in self._loose if each not in alike])
        if any(self._meet(key[0], own[0]) for key in others):
            return False
        eligible = cluster.eligible(own[0])
        return all(
            any(
                bool(eligible[share.node]) and bool((cluster.share_vector(share) >= need).all())
                for share in each.shares
            )
            for each in holders
        )

    # ---- 前面的 ----

    def _ahead(self, loose: list[tuple[OrderKey, GroupKey]]) -> set[GroupKey]:
        return {(kept.shape, kept.limit_s) for kept in self._kept} | {key for _, key in loose}

    def _blocked(self) -> list[tuple[OrderKey, GroupKey]]:
        """排在前面、前景里没有（都）保留的：等着上限的，说不准何时的。"""
        outlook = self._outlook
        reserved = {(kept.job.shape, kept.job.time_limit_s) for kept in outlook.plan.reservations}
        return [
            ((group := outlook.queue.groups[key]).keys[group.start], key)
            for key, reason in outlook.plan.blocked.items()
            if key not in reserved or key in outlook.undated or limited(self._cluster, key[0], reason)
        ]

    # ---- 两个之间 ----

    def _settled(self, own: _Dated, ahead: list[tuple[_Dated, bool]]) -> bool:
        if any(key < own.key and self._meet(group[0], own.shape) for key, group in self._loose):
            return False
        return all(
            settled and self._harmless(other, own) for other, settled in ahead if self._meet(other.shape, own.shape)
        )

    def _harmless(self, other: _Dated, own: _Dated) -> bool:
        """与它争的，挤不到它：那时已经做完，或与它一模一样。"""
        if other.start + other.limit_s <= own.start:
            return True
        cluster = self._cluster
        need, kind = facts_of(cluster, Group(own.shape, own.limit_s))
        # 有预留隔断的，地方不是一直都有。
        if kind is Kind.GENERAL or cluster.reservations or other.limit_s != own.limit_s:
            return False
        if other.shape == own.shape:
            return True
        wanted, how = facts_of(cluster, Group(other.shape, other.limit_s))
        return (
            how is kind
            and bool((wanted == need).all())
            and not self._share_license(other.shape, own.shape)
            and bool((cluster.eligible(other.shape) == cluster.eligible(own.shape)).all())
        )

    def _meet(self, other: Shape, own: Shape) -> bool:
        """两个会争同样的节点或许可证；other 排在前面。"""
        found = self._touching.get((other, own))
        if found is None:
            found = self._touching[other, own] = self._share_license(other, own) or contend(self._cluster, other, own)
        return found

    def _share_license(self, other: Shape, own: Shape) -> bool:
        names = {name for name, _ in own.pools if name.startswith(LICENSE)}
        return any(name in names for name, _ in other.pools)


def _dated(kept: Reservation) -> _Dated:
    return _Dated(kept.job.key, kept.job.shape, kept.job.time_limit_s, kept.start_time)
