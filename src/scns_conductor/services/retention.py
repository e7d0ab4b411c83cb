"""保留期：结束很久的作业一小批一小批地移进历史，更久的整月地丢掉。

一批一个事务：抄进历史、从平常的表里删掉要么都有，要么都没有；做到一半被杀，下次接着做。同时只有一个在做，
一批之间歇和做一样久，不与提交、调度争。
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import ConductorError, InvalidRequest, first_line
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import many, record
from scns_conductor.services.usage_rollup import roll_up
from scns_conductor.statements import retention as statements
from scns_conductor.statements.table_columns import COLUMNS

INTERVAL_S = 600.0
# 一批移几个；一次看几个有没有移得走的。
BATCH = 500
LOOK = 2000
_BEGINNING = datetime(1, 1, 2, tzinfo=UTC)

# 照保留期丢掉历史的，不是哪一个人。
KEEPER = Identity("scns", admin=True, method="retention")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """保留期；move_before、drop_before 是照它此刻的界，没有的是 None。"""

    move_after_s: int | None
    drop_after_s: int | None
    changed_at: datetime
    now: datetime
    move_before: datetime | None
    drop_before: datetime | None


async def read_policy(engine: AsyncEngine) -> Policy:
    """现在的保留期。"""
    async with engine.connect() as connection:
        return Policy(**(await connection.execute(statements.POLICY)).one()._mapping)


async def set_policy(
    engine: AsyncEngine, identity: Identity, move_after_s: int | None, drop_after_s: int | None
) -> None:
    """定下保留期；不成样子抛 InvalidRequest。"""
    for name, value in (("move_after", move_after_s), ("drop_after", drop_after_s)):
        if value is not None and not 0 < value < 2**40:
            raise InvalidRequest(name, "要大于 0")
    if drop_after_s is not None and (move_after_s is None or drop_after_s < move_after_s):
        raise InvalidRequest("drop_after", "丢掉的只能是移进了历史的：要写 move_after，且不比它短")
    async with engine.begin() as connection:
        values = {"move_after_s": move_after_s, "drop_after_s": drop_after_s}
        before = (await connection.execute(statements.POLICY)).mappings().one()
        await connection.execute(statements.SET_POLICY, values)
        await record(connection, identity, "retention.set", "history", before=before, after=values)


async def move_old_jobs(engine: AsyncEngine, before: datetime) -> AsyncIterator[int]:
    """把 before 之前结束的移进历史；每移一批给出移了几个。别人正在移的时候什么也不做。"""
    await roll_up(engine)
    place: tuple[datetime, int] = (_BEGINNING, 0)
    while True:
        values = {"before": before, "after_time": place[0], "after_id": place[1], "look": LOOK}
        async with engine.connect() as connection:
            rows = (await connection.execute(statements.OLDEST, values)).all()
        movable = [row.job_id for row in rows if row.movable]
        for start in range(0, len(movable), BATCH):
            moved = await _move(engine, movable[start : start + BATCH], before)
            if moved is None:
                return
            yield moved
        if len(rows) < LOOK:
            return
        place = rows[-1].end_time, rows[-1].job_id


async def _move(engine: AsyncEngine, job_ids: Sequence[int], before: datetime) -> int | None:
    """移一批，返回移了几个；没有轮到是 None。"""
    await _make_partitions(engine, job_ids, before)
    async with engine.begin() as connection:
        if not await connection.scalar(statements.TAKE_TURN):
            return None
        held = (await connection.execute(statements.HOLD_STILL, {"job_ids": list(job_ids), "before": before})).all()
        # 刚改了结束时刻而落进没有分区的月份的，下一轮再移。
        known = await _months(connection)
        chosen = {"job_ids": [row.job_id for row in held if row.month in known]}
        for copy in statements.COPY_INTO_HISTORY:
            await connection.execute(copy, chosen)
        await connection.execute(statements.COUNT_MOVED, chosen)
        await connection.execute(statements.DELETE_MOVED, chosen)
    return len(chosen["job_ids"])


async def history_months(engine: AsyncEngine) -> list[datetime]:
    """历史里有哪些月，早的在前。"""
    async with engine.connect() as connection:
        return sorted(await _months(connection))


async def _months(connection: AsyncConnection) -> set[datetime]:
    rows = await connection.execute(statements.MONTHS)
    return {datetime(row.month.year, row.month.month, 1, tzinfo=UTC) for row in rows}


async def _make_partitions(engine: AsyncEngine, job_ids: Sequence[int], before: datetime) -> None:
    async with engine.begin() as connection:
        values = {"job_ids": list(job_ids), "before": before}
        wanted = {row.month for row in await connection.execute(statements.ENDED_MONTHS, values)}
        # 轮到自己之后再看一遍：刚才别人也许建了。
        if wanted - await _months(connection) and await connection.scalar(statements.TAKE_TURN):
            for month in sorted(wanted - await _months(connection)):
                for statement in statements.month_partitions(month):
                    await connection.exec_driver_sql(statement)


async def bring_back(engine: AsyncEngine, identity: Identity, job_ids: Sequence[int] | None = None) -> int:
    """把历史里的一批（job_ids 连同它们的数组、异构作业，缺省是随便一批）放回平常的表，返回几个。"""
    async with engine.begin() as connection:
        if not await connection.scalar(statements.TAKE_TURN):
            return 0
        values = {"job_ids": None if job_ids is None else list(job_ids), "most": BATCH}
        chosen = {"job_ids": list((await connection.execute(statements.FROM_HISTORY, values)).scalars())}
        await connection.execute(statements.COUNT_RETURNED, chosen)
        for copy in statements.COPY_OUT_OF_HISTORY:
            await connection.execute(copy, chosen)
        for removal in statements.DELETE_FROM_HISTORY:
            await connection.execute(removal, chosen)
        if chosen["job_ids"]:
            await record(connection, identity, "history.return", many([str(each) for each in chosen["job_ids"]]))
    return len(chosen["job_ids"])


async def drop_old_months(engine: AsyncEngine, before: datetime) -> list[datetime]:
    """丢掉整个都在 before 之前的月份，返回丢了哪些。"""
    async with engine.begin() as connection:
        if not await connection.scalar(statements.TAKE_TURN):
            return []
        chosen = sorted(month for month in await _months(connection) if statements.following(month) <= before)
        if chosen:
            await connection.exec_driver_sql(statements.drop_partitions(chosen))
            await connection.execute(statements.FORGET_COUNTS, {"months": chosen})
            told = {"months": [f"{month:%Y-%m}" for month in chosen], "before": before}
            await record(connection, KEEPER, "history.drop", "history", after=told)
    return chosen


async def whereabouts(engine: AsyncEngine) -> dict[str, Any]:
    """什么在哪里：{hot: {jobs（估计）, oldest, bytes}, months: [{month, bytes, jobs: {状态: 几个}}]}。"""
    async with engine.connect() as connection:
        sizes = {row.month: 0 for row in await connection.execute(statements.MONTHS)}
        for row in await connection.execute(statements.MONTHS):
            sizes[row.month] += row.bytes
        counts = (await connection.execute(statements.COUNTS)).all()
        hot = (await connection.execute(statements.HOT_FINISHED)).one()
        tables = (await connection.execute(statements.HOT_SIZES, {"tables": list(COLUMNS)})).all()
    return {
        "hot": {"jobs": max(0, hot.jobs), "oldest": hot.oldest, "bytes": {row.table: row.bytes for row in tables}},
        "months": [
            {
                "month": month,
                "bytes": size,
                "jobs": {row.state: row.jobs for row in counts if row.month.astimezone(UTC).date() == month},
            }
            for month, size in sizes.items()
        ],
    }


async def apply_policy(engine: AsyncEngine, *, gently: bool = True) -> tuple[int, list[datetime]]:
    """照保留期做一遍，返回移了几个、丢了哪些月；gently 时一批之间歇和做一样久。"""
    policy = await read_policy(engine)
    total = 0
    if policy.move_before is not None:
        began = time.monotonic()
        async for moved in move_old_jobs(engine, policy.move_before):
            total += moved
            if gently:
                await asyncio.sleep(time.monotonic() - began)
            began = time.monotonic()
    dropped = [] if policy.drop_before is None else await drop_old_months(engine, policy.drop_before)
    return total, dropped


async def keep_retention(engine: AsyncEngine) -> None:
    """隔 INTERVAL_S 照保留期做一遍，直到被取消。"""
    while True:
        await asyncio.sleep(INTERVAL_S * random.uniform(0.8, 1.2))
        try:
            moved, dropped = await apply_policy(engine)
        except (sa.exc.SQLAlchemyError, ConductorError, OSError, TimeoutError) as error:
            logger.warning("retention_failed", error=first_line(error))
            continue
        if moved or dropped:
            logger.info("retention", moved=moved, dropped=[f"{month:%Y-%m}" for month in dropped])
