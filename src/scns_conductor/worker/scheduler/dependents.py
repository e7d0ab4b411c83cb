"""谁在等谁：依赖的索引。空了的集合不留着：跑上几个月，所依赖的作业有几百万个。"""

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.engine import Connection

from scns_conductor.core.dependency import Judgement, evaluate
from scns_conductor.statements.dependency_states import singletons_ahead, target_states
from scns_conductor.worker.scheduler.waiting_job import Waiting

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class Dependents:
    """所依赖的作业 -> 等它的作业；(用户, 作业名) -> 写了 singleton 的作业。"""

    _on_job: dict[int, set[int]] = field(default_factory=dict)
    _singletons: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def clear(self) -> None:
        """全忘掉。"""
        self._on_job.clear()
        self._singletons.clear()

    def __len__(self) -> int:
        return len(self._on_job) + len(self._singletons)

    def add(self, waiting: Waiting) -> bool:
        """记下它等谁；没有依赖的返回 False。"""
        dependency, job_id = waiting.dependency, waiting.job.job_id
        if dependency is None:
            return False
        for other in dependency.job_ids:
            self._on_job.setdefault(other, set()).add(job_id)
        if dependency.singleton:
            self._singletons.setdefault((waiting.user_name, waiting.name), set()).add(job_id)
        return True

    def remove(self, waiting: Waiting) -> None:
        """不再等了。"""
        if waiting.dependency is None:
            return
        for other in waiting.dependency.job_ids:
            _discard(self._on_job, other, waiting.job.job_id)
        if waiting.dependency.singleton:
            _discard(self._singletons, (waiting.user_name, waiting.name), waiting.job.job_id)

    @property
    def any_singleton(self) -> bool:
        """有写了 singleton 的。"""
        return bool(self._singletons)

    def of(self, job_id: int) -> Collection[int]:
        """等这个作业的。"""
        return self._on_job.get(job_id, ())

    def first_singleton(self, user_name: str, name: str) -> int | None:
        """同名的一个接一个：只有最早的一个可能轮到。"""
        same = self._singletons.get((user_name, name))
        return min(same) if same else None


def evaluations(connection: Connection, some: Sequence[Waiting], now: float) -> Iterator[tuple[Waiting, Judgement]]:
    """这些作业（都有依赖）此刻的依赖满足了没有。"""
    targets = {number for each in some if each.dependency is not None for number in each.dependency.job_ids}
    states = target_states(connection, targets)
    ahead = singletons_ahead(
        connection,
        {
            each.job.job_id: (each.user_name, each.name)
            for each in some
            if each.dependency is not None and each.dependency.singleton
        },
    )
    for each in some:
        assert each.dependency is not None
        busy = each.dependency.singleton and ahead(each.job.job_id)
        yield (
            each,
            evaluate(
                each.dependency, states, now=now, singleton_busy=busy, own_tasks=each.remaining, own_stride=each.stride
            ),
        )


def _discard(index: dict[_Key, set[int]], key: _Key, job_id: int) -> None:
    found = index.get(key)
    if found is not None:
        found.discard(job_id)
        if not found:
            del index[key]
