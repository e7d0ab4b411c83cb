"""总览：各状态的作业数、资源总量与用量、运行与排队中的作业、领导者。"""

import asyncio
import contextlib
import time

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.cluster import Dashboard as Overview
from scns_conductor.core.answers.cluster import LeaderShown, Resources
from scns_conductor.core.states import JobState, node_state
from scns_conductor.statements.dashboard import COUNT_FINISHED, COUNT_LIVE, LATEST_RUNNING, LONGEST_PENDING
from scns_conductor.statements.leadership import leader_select
from scns_conductor.statements.nodes import USAGE_OF_NODES

# 几百万个结束的作业、几十万个排队的作业，数一遍要零点几秒：多于 COUNTED_NOW 个时先答上次的数，在背后重数。
COUNTED_NOW = 20_000
LIVE_FRESH_S = 1.0
FINISHED_FRESH_S = 5.0
# 再旧就等新的数：答的数不会比这更旧。
OLDEST_S = 10.0


class _Counts:
    """一条按状态计数的语句；数目大时先答上次的数，过了 fresh_s 在背后重数。"""

    def __init__(self, engine: AsyncEngine, statement: sa.TextClause, fresh_s: float) -> None:
        self._engine = engine
        self._statement = statement
        self._fresh_s = fresh_s
        self._found: dict[str, int] = {}
        self._counted_at = -OLDEST_S
        self._counting: asyncio.Task[None] | None = None

    async def get(self) -> dict[str, int]:
        """各状态的个数；没有的状态不在其中。"""
        age_s = time.monotonic() - self._counted_at
        few = sum(self._found.values()) < COUNTED_NOW
        if few or age_s > OLDEST_S:
            await self._count()
        elif age_s > self._fresh_s and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(self._recount())
        return self._found

    async def _count(self) -> None:
        began = time.monotonic()
        async with self._engine.connect() as connection:
            self._found = {row.state: int(row.jobs) for row in await connection.execute(self._statement)}
        self._counted_at = began

    async def _recount(self) -> None:
        # 数据库不在：旧的数到了 OLDEST_S 就不再用，那时由请求自己报错。
        with contextlib.suppress(SQLAlchemyError, OSError):
            await self._count()


class Dashboard:
    """总览；作业很多时计数略旧（至多 OLDEST_S 秒）。"""

    def __init__(self, engine: AsyncEngine, lease_s: float) -> None:
        self._engine = engine
        self._lease_s = lease_s
        self._live = _Counts(engine, COUNT_LIVE, LIVE_FRESH_S)
        self._finished = _Counts(engine, COUNT_FINISHED, FINISHED_FRESH_S)

    async def counts(self) -> dict[str, int]:
        """各状态的作业数；没有作业的状态是 0。"""
        live, finished = await self._live.get(), await self._finished.get()
        return {state.value: live.get(state, finished.get(state, 0)) for state in JobState}

    async def resources(self) -> Resources:
        """资源总量与用量：CPU、内存（MiB）、通用资源、节点按状态计数。不可用的节点不计入总量。"""
        totals: Resources = {
            "cpus": {"total": 0, "used": 0},
            "memory_mb": {"total": 0, "used": 0},
            "gres": {},
            "nodes": {"total": 0, "by_state": {}},
        }
        async with self._engine.connect() as connection:
            rows = (await connection.execute(USAGE_OF_NODES)).all()
        for row in rows:
            word = node_state(row._asdict())
            totals["nodes"]["total"] += 1
            totals["nodes"]["by_state"][word] = totals["nodes"]["by_state"].get(word, 0) + 1
            if row.state != "UP":
                continue
            totals["cpus"]["total"] += row.cpus
            totals["cpus"]["used"] += row.allocated_cpus
            totals["memory_mb"]["total"] += row.memory
            totals["memory_mb"]["used"] += row.allocated_memory
            for name, count in row.gres.items():
                entry = totals["gres"].setdefault(name, {"total": 0, "used": 0})
                entry["total"] += count
                entry["used"] += row.allocated_gres.get(name, 0)
        return totals

    async def leader(self) -> LeaderShown:
        """调度领导者：谁、第几任、是否还在续租。"""
        async with self._engine.connect() as connection:
            row = (await connection.execute(leader_select(), {"lease": self._lease_s})).mappings().one_or_none()
        if row is None:
            return {"holder": None, "epoch": 0, "renewed_at": None, "alive": False, "blocked": []}
        return {
            "holder": row["holder"],
            "epoch": row["epoch"],
            "renewed_at": row["renewed_at"],
            "alive": bool(row["alive"]),
            "blocked": row["blocked"],
        }

    async def overview(self) -> Overview:
        """GET /dashboard 的回答。"""
        async with self._engine.connect() as connection:
            running = [dict(row) for row in (await connection.execute(LATEST_RUNNING)).mappings()]
            pending = [dict(row) for row in (await connection.execute(LONGEST_PENDING)).mappings()]
        return {
            "jobs": {"by_state": await self.counts(), "running": running, "pending": pending},
            "resources": await self.resources(),
            "leader": await self.leader(),
        }
