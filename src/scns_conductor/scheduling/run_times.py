"""预测一个作业真的跑多久：同一个用户最近做完的两个作业的平均，像它的优先（Tsafrir、Etsion、Feitelson，TPDS 2007）。

像不像由调用者说（kind）：线上是同名，踪迹里是同样的 CPU 数与时限。
试过分位数的梯度提升树，不比它好（docs/simulator.md）。
"""

import math
from collections import defaultdict
from collections.abc import Hashable

# 平均几个。
LATEST = 2
LEAST_RUN_S = 1.0
# 预测取到这样的档：每翻一倍分四档。差不多的作业仍在一组里，一个新的样本不打乱整个队列。
STEPS_PER_DOUBLING = 4


class RunTimes:
    """各用户最近做完的作业跑了多久（秒）。"""

    def __init__(self) -> None:
        self._by_user: dict[str, list[float]] = defaultdict(list)
        self._by_kind: dict[tuple[str, Hashable], list[float]] = defaultdict(list)

    def learn(self, user: str, kind: Hashable, run_s: float) -> None:
        """又做完一个；按做完的先后来。"""
        for latest in (self._by_user[user], self._by_kind[user, kind]):
            latest.append(run_s)
            del latest[:-LATEST]

    def mean(self, user: str, kind: Hashable) -> float | None:
        """多半跑多少秒；没有历史是 None。"""
        found = self._by_kind.get((user, kind)) or self._by_user.get(user)
        return max(LEAST_RUN_S, sum(found) / len(found)) if found else None

    def predict(self, user: str, kind: Hashable, limit_s: float) -> float:
        """多半跑多少秒，取到档，不超过时限；没有历史的就是时限。"""
        found = self.mean(user, kind)
        if found is None or found >= limit_s:
            return limit_s
        step = math.ceil(math.log2(found) * STEPS_PER_DOUBLING)
        return float(min(limit_s, 2.0 ** (step / STEPS_PER_DOUBLING)))
