"""一个作业的依赖图：它等谁（一直往上），谁等它（没有结束的，一直往下）；都有上限。"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.answers.reports import DependencyGraph, GraphJob
from scns_conductor.core.dependency import parse_dependency
from scns_conductor.services.job_queries import read_job
from scns_conductor.statements.dependency_graph import GRAPH_DEPENDENTS, GRAPH_JOBS, GRAPH_ROOT
from scns_conductor.statements.job_detail import ATTEMPT

MOST_LEVELS = 8
MOST_JOBS = 100


async def dependency_graph(engine: AsyncEngine, job_id: str) -> DependencyGraph:
    """level 是离它几层，等的在上（负的），等它的在下；to 在等 from。不存在抛 NotFound。"""
    row = await read_job(engine, job_id, ATTEMPT)
    graph = _Graph()
    async with engine.connect() as connection:
        root = int(await connection.scalar(GRAPH_ROOT, {"job_id": row["job_id"]}) or row["job_id"])
        await graph.add_known(connection, [root], 0)
        await graph.upwards(connection, root)
        await graph.downwards(connection, root)
    return graph.shown(root)


class _Graph:
    def __init__(self) -> None:
        self.jobs: dict[int, Mapping[str, Any]] = {}
        self.complete = True

    def add(self, rows: Iterable[RowMapping], level: int) -> list[int]:
        """收下还没有的；超过 MOST_JOBS 的不收。返回新的。"""
        fresh = []
        for row in rows:
            if row["job_id"] in self.jobs:
                continue
            if len(self.jobs) >= MOST_JOBS:
                self.complete = False
                break
            self.jobs[row["job_id"]] = {**row, "level": level}
            fresh.append(row["job_id"])
        return fresh

    async def add_known(self, connection: AsyncConnection, numbers: Iterable[int], level: int) -> list[int]:
        found = (await connection.execute(GRAPH_JOBS, {"job_ids": sorted(numbers)})).mappings().all()
        return self.add(found, level)

    async def upwards(self, connection: AsyncConnection, root: int) -> None:
        """它等的，它们等的……"""
        layer = [root]
        for level in range(1, MOST_LEVELS + 1):
            wanted = {number for each in layer for number, _ in targets(self.jobs[each])} - set(self.jobs)
            if not wanted:
                return
            layer = await self.add_known(connection, wanted, -level)
        self.complete = self.complete and not layer

    async def downwards(self, connection: AsyncConnection, root: int) -> None:
        """等它的，等它们的……"""
        layer = [root]
        for level in range(1, MOST_LEVELS + 1):
            pattern = f"(^|[:,?])({'|'.join(map(str, layer))})([_+:,?]|$)"
            found = await connection.execute(GRAPH_DEPENDENTS, {"pattern": pattern, "most": MOST_JOBS + 1})
            layer = self.add(found.mappings().all(), level)
            if not layer:
                return
        self.complete = False

    def shown(self, root: int) -> DependencyGraph:
        """给人看的；所依赖的已经不在的，没有它的边。"""
        edges = [
            {"kind": kind, "from": str(number), "to": str(job["job_id"])}
            for job in self.jobs.values()
            for number, kind in targets(job)
            if number in self.jobs
        ]
        jobs: list[GraphJob] = [
            {
                "job_id": str(number),
                "name": job["name"],
                "user_name": job["user_name"],
                "state": job["state"],
                "level": job["level"],
            }
            for number, job in self.jobs.items()
        ]
        return {"job_id": str(root), "jobs": jobs, "edges": edges, "complete": self.complete}


def targets(job: Mapping[str, Any]) -> list[tuple[int, str]]:
    """（所依赖的作业号，种类）；写法认不出的（不会有）当作没有。"""
    try:
        found = parse_dependency(job["dependency"] or "")
    except ValueError:
        return []
    pairs = ((target.job_id, condition.kind) for condition in found.conditions for target in condition.targets)
    return list(dict.fromkeys(pairs))
