"""提交与修改要对照的：此刻的集群情况、记账与设置。按缓存的要拒绝时，重读一遍再判。"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.settings import Settings
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.services.accounting_cache import AccountingCache
from scns_conductor.services.cluster_limits import ClusterLimits, LimitsCache
from scns_conductor.services.job_admission import Admission
from scns_conductor.services.live_settings import LiveSettings

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Rules:
    """某一刻的。"""

    limits: ClusterLimits
    admission: Admission
    settings: Settings

    @property
    def defaults(self) -> Defaults:
        """作业没有写时的要求。"""
        return Defaults(self.settings.default_memory_mb_per_cpu)


class CurrentRules:
    """此刻的。"""

    def __init__(self, settings: LiveSettings, limits: LimitsCache, accounting: AccountingCache) -> None:
        self._settings = settings
        self._limits = limits
        self._accounting = accounting

    async def judge(
        self, partitions: frozenset[str], reservations: frozenset[str], attempt: Callable[[Rules], Awaitable[_Made]]
    ) -> _Made:
        """按缓存的集群情况 attempt；它要拒绝（抛 InvalidRequest）的，重读一次再 attempt：节点也许刚刚登记。

        partitions 与 reservations 是一定要认得的名字。
        """
        try:
            return await attempt(await self._read(partitions, reservations, fresh=False))
        except InvalidRequest:
            return await attempt(await self._read(partitions, reservations, fresh=True))

    async def now(self, partitions: frozenset[str] = frozenset()) -> Rules:
        """此刻的，至多旧一小会儿；partitions 是一定要认得的名字，刚建的也是。"""
        return await self._read(partitions, frozenset(), fresh=False)

    async def _read(self, partitions: frozenset[str], reservations: frozenset[str], *, fresh: bool) -> Rules:
        settings = await self._settings.get()
        admission = Admission(await self._accounting.get(), settings)
        limits = await self._limits.get(partitions, reservations, fresh=fresh)
        return Rules(limits, admission, settings)


def partition_names(text: str | None) -> frozenset[str]:
    """作业写的分区（逗号分隔）-> 各个名字。"""
    return frozenset(name for part in (text or "").split(",") if (name := part.strip()))
