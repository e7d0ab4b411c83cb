"""单个提交的合批：一个被拒的不连累别人，也不把五百个变成五百个事务。真的 PostgreSQL。"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.async_database import async_engine
from scns_conductor.core.errors import Conflict
from scns_conductor.core.job_limits import SubmitLimit
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services.cluster_limits import ClusterLimits, PartitionLimits
from scns_conductor.services.job_admission import SUBMIT_LIMITS
from scns_conductor.services.new_job import Submitter, new_job
from scns_conductor.services.submission import GROUP_LIMIT, IdempotencyClaim, SubmitQueue

# 数据库不收的：校验漏掉了什么，就像这样。
UNACCEPTABLE = "a\0b"
MOST_TRIES = 2 * math.ceil(math.log2(GROUP_LIMIT)) + 1


class CountingQueue(SubmitQueue):
    """数着写了几次（几个事务）；done_after 是每个作业在第几次写完之后有了回答。"""

    writes = 0

    async def _write(self, batch: Sequence[Any]) -> "list[int | Exception]":
        self.writes += 1
        return await super()._write(batch)

    async def told(self, row: dict[str, Any], claim: IdempotencyClaim | None = None) -> "tuple[int | Exception, int]":
        """（作业号或错误，那时写了几次）。"""
        try:
            return await self.submit(row, claim), self.writes
        except Exception as error:  # 要看的就是它
            return error, self.writes


def job_row(settings: Settings, user: str = "alice", **changed: Any) -> dict[str, Any]:
    partitions = {"main": PartitionLimits("main", True, None, None, 1, None, None, None, None)}
    row = new_job({}, "true", Submitter(Identity(user, admin=False)), ClusterLimits(partitions), settings)
    return {**row, **changed}


def run(settings: Settings, body: Callable[[CountingQueue, AsyncEngine], Awaitable[None]]) -> None:
    async def with_engine() -> None:
        engine = async_engine(settings)
        queue = CountingQueue(engine)
        try:
            await body(queue, engine)
        finally:
            await queue.close()
            await engine.dispose()

    asyncio.run(with_engine())


async def count_jobs(engine: AsyncEngine, user: str) -> int:
    async with engine.connect() as connection:
        statement = sa.text("SELECT count(*) FROM jobs WHERE user_name = :user")
        return int((await connection.execute(statement, {"user": user})).scalar_one())


@pytest.mark.parametrize("place", [0, 137, GROUP_LIMIT - 1])
def test_one_refused_row_costs_the_others_a_few_transactions(settings: Settings, place: int) -> None:
    async def body(queue: CountingQueue, engine: AsyncEngine) -> None:
        rows = [job_row(settings, name=UNACCEPTABLE if index == place else "ok") for index in range(GROUP_LIMIT)]
        outcomes = [outcome for outcome, _ in await asyncio.gather(*(queue.told(row) for row in rows))]
        assert isinstance(outcomes.pop(place), asyncpg.CharacterNotInRepertoireError)
        assert len({outcome for outcome in outcomes if isinstance(outcome, int)}) == GROUP_LIMIT - 1
        assert await count_jobs(engine, "alice") == GROUP_LIMIT - 1
        assert queue.writes <= MOST_TRIES

    run(settings, body)


def test_many_refused_rows_of_one_user_do_not_hold_up_the_others(settings: Settings) -> None:
    """一半是一个人的坏的：别人的、之后才来的，都不等它们一个个试完。"""

    async def body(queue: CountingQueue, engine: AsyncEngine) -> None:
        mixed = [
            job_row(settings, "mallory", name=UNACCEPTABLE) if index % 2 else job_row(settings, "alice")
            for index in range(GROUP_LIMIT)
        ]
        first = asyncio.gather(*(queue.told(row) for row in mixed))
        await asyncio.sleep(0)
        late = asyncio.gather(*(queue.told(job_row(settings, "bob")) for _ in range(50)))
        told = [*(await first), *(await late)]
        good = [when for outcome, when in told if isinstance(outcome, int)]
        assert len(good) == GROUP_LIMIT // 2 + 50
        assert max(good) <= MOST_TRIES
        assert [await count_jobs(engine, user) for user in ("alice", "bob", "mallory")] == [GROUP_LIMIT // 2, 50, 0]

    run(settings, body)


def test_a_database_that_refuses_everything_is_asked_once(settings: Settings) -> None:
    """只读的数据库：再分开试也一样，都回答错误。"""

    async def body(queue: CountingQueue, engine: AsyncEngine) -> None:
        rows = [job_row(settings) for _ in range(100)]
        async with engine.begin() as connection:
            name = (await connection.execute(sa.text("SELECT current_database()"))).scalar_one()
            await connection.execute(sa.text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        await engine.dispose()
        outcomes = [outcome for outcome, _ in await asyncio.gather(*(queue.told(row) for row in rows))]
        assert all(isinstance(outcome, Exception) for outcome in outcomes)
        assert queue.writes == 1

    run(settings, body)


def test_those_over_their_limit_are_refused_in_the_same_transaction(settings: Settings) -> None:
    async def body(queue: CountingQueue, engine: AsyncEngine) -> None:
        limit = SubmitLimit("MaxSubmitJobs:mallory", 3, user="mallory")
        rows = [
            job_row(settings, "mallory", **{SUBMIT_LIMITS: (limit,)}) if index % 2 else job_row(settings)
            for index in range(100)
        ]
        outcomes = [outcome for outcome, _ in await asyncio.gather(*(queue.told(row) for row in rows))]
        refused = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
        assert {conflict.code for conflict in refused} == {"accounting_policy"}
        assert len(refused) == 47
        assert [await count_jobs(engine, user) for user in ("alice", "mallory")] == [50, 3]
        assert queue.writes == 1

    run(settings, body)


def test_a_misused_key_is_refused_alone_and_a_refused_job_does_not_use_up_its_key(settings: Settings) -> None:
    async def body(queue: CountingQueue, engine: AsyncEngine) -> None:
        first, _ = await queue.told(job_row(settings), IdempotencyClaim("alice", "k", "one"))
        full = {SUBMIT_LIMITS: (SubmitLimit("MaxSubmitJobs:bob", 0, user="bob"),)}
        again, misused, refused, fresh = [
            outcome
            for outcome, _ in await asyncio.gather(
                queue.told(job_row(settings), IdempotencyClaim("alice", "k", "one")),
                queue.told(job_row(settings), IdempotencyClaim("alice", "k", "two")),
                queue.told(job_row(settings, "bob", **full), IdempotencyClaim("bob", "k", "one")),
                queue.told(job_row(settings), IdempotencyClaim("alice", "other", "one")),
            )
        ]
        assert again == first
        assert isinstance(misused, Conflict)
        assert misused.code == "idempotency_conflict"
        assert isinstance(refused, Conflict)
        assert refused.code == "accounting_policy"
        assert isinstance(fresh, int)
        assert queue.writes == 2
        later, _ = await queue.told(job_row(settings, "bob"), IdempotencyClaim("bob", "k", "one"))
        assert isinstance(later, int)
        assert [await count_jobs(engine, user) for user in ("alice", "bob")] == [2, 1]

    run(settings, body)
