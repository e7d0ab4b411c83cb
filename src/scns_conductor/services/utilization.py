"""占用的历史：由分配的记录算出，不另存；短时间里问同一段只算一次。"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.reports import AccountSeries
from scns_conductor.core.answers.reports import Utilization as Shown
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.statements.utilization import GROUPS, UTILIZATION, WAITS

MOST_BUCKETS = 500
# 画得出的几个账户，其余合成一个。
MOST_ACCOUNTS = 7
FRESH_S = 20.0
_RESOURCES = ("cpus", "memory_mb", "gpus")


class Utilization:
    """一个 API 进程一份。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._known: dict[tuple[int, int, int, str], tuple[float, Shown]] = {}
        self._lock = asyncio.Lock()

    async def history(self, since: datetime, until: datetime, buckets: int, by: str = "account") -> Shown:
        """各账户（by 是 user、partition、qos 时是它们）每一格平均占用的 CPU、内存（MiB）、GPU，与等待的分位数。

        格数、by 不对抛 InvalidRequest。
        """
        if by not in GROUPS:
            raise InvalidRequest("by", f"应是 {'、'.join(GROUPS)} 之一")
        if not 1 <= buckets <= MOST_BUCKETS:
            raise InvalidRequest("buckets", f"应在 1 到 {MOST_BUCKETS} 之间")
        span = (until - since).total_seconds()
        if span <= 0:
            raise InvalidRequest("until", "应晚于 since")
        # 一起问的人给的时刻差不了几秒：按 FRESH_S 取整，算一次就够。
        key = (int(since.timestamp() / FRESH_S), int(until.timestamp() / FRESH_S), buckets, by)
        async with self._lock:
            known = self._known.get(key)
            if known is not None and time.monotonic() - known[0] < FRESH_S:
                return known[1]
            found = await self._read(since, until, span / buckets, buckets, by)
            now = time.monotonic()
            self._known = {each: value for each, value in self._known.items() if now - value[0] < FRESH_S}
            self._known[key] = (now, found)
            return found

    async def _read(self, since: datetime, until: datetime, width: float, buckets: int, by: str) -> Shown:
        values = {"since": since, "until": until}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(UTILIZATION[by], {**values, "width": width})).all()
            waits = (await connection.execute(WAITS, values)).one()
        series: dict[str | None, dict[str, list[float]]] = {}
        for row in rows:
            # 恰在末尾的一格没有长度。
            if row.bucket < buckets:
                own = series.setdefault(row.name, {name: [0.0] * buckets for name in _RESOURCES})
                for name in _RESOURCES:
                    own[name][row.bucket] += getattr(row, name)
        ordered = sorted(series.items(), key=lambda item: -sum(item[1]["cpus"]))
        accounts: list[AccountSeries] = [
            _series(name if by == "account" else None, name, own) for name, own in ordered[:MOST_ACCOUNTS]
        ]
        if len(ordered) > MOST_ACCOUNTS:
            rest = [own for _, own in ordered[MOST_ACCOUNTS:]]
            total = {
                name: [sum(column) for column in zip(*(own[name] for own in rest), strict=True)] for name in _RESOURCES
            }
            accounts.append({**_series(None, None, total), "others": len(rest)})
        percentiles = [None if value is None else round(float(value), 3) for value in (waits.waits or [None] * 3)]
        return {
            "since": since.isoformat(),
            "until": until.isoformat(),
            "bucket_s": width,
            "accounts": accounts,
            "waits": {
                "started": waits.started,
                "p50_s": percentiles[0],
                "p90_s": percentiles[1],
                "p99_s": percentiles[2],
            },
        }


def _series(account: str | None, name: str | None, own: Mapping[str, Sequence[float]]) -> AccountSeries:
    rounded = {each: [round(value, 2) for value in values] for each, values in own.items()}
    return {
        "account": account,
        "name": name,
        "cpus": rounded["cpus"],
        "memory_mb": rounded["memory_mb"],
        "gpus": rounded["gpus"],
    }
