"""提交：一批作业一个事务；并发的单个提交合成一批（group commit），带幂等键的先占住键。"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.database import LOCK_TIMEOUT, UNUSABLE_SESSION
from scns_conductor.core.dependency import parse_dependency
from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.services.job_admission import reserve_submissions
from scns_conductor.services.job_insert import insert_jobs

logger = logging.getLogger(__name__)

# 一批最多合多少个单独的提交；再多也不会更快，只会让先到的多等。
GROUP_LIMIT = 500

# 并发的同一个键在唯一索引上互相等待，只有一个占得住；按键的次序占，不会死锁。
_CLAIM_KEYS = sa.text(
    "INSERT INTO idempotency_keys (user_name, key, request_hash, job_ids) "
    "SELECT n.user_name, n.key, n.request_hash, '{}' "
    "FROM unnest(CAST(:user_names AS text[]), CAST(:keys AS text[]), CAST(:hashes AS text[])) "
    "AS n(user_name, key, request_hash) ORDER BY 1, 2 ON CONFLICT DO NOTHING RETURNING user_name, key"
)
_READ_KEYS = sa.text(
    "SELECT k.user_name, k.key, k.request_hash, k.job_ids FROM idempotency_keys AS k "
    "JOIN unnest(CAST(:user_names AS text[]), CAST(:keys AS text[])) AS n(user_name, key) USING (user_name, key)"
)
_FILL_KEYS = sa.text(
    "UPDATE idempotency_keys AS k SET job_ids = CAST(n.job_ids AS bigint[]) "
    "FROM unnest(CAST(:user_names AS text[]), CAST(:keys AS text[]), CAST(:job_ids AS text[])) "
    "AS n(user_name, key, job_ids) WHERE k.user_name = n.user_name AND k.key = n.key"
)


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """幂等键与请求内容的摘要。"""

    user_name: str
    key: str
    request_hash: str


async def _insert(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """在调用者的事务里写下一批作业（new_job 的结果），返回作业号，次序与给的相同。超过提交数的上限抛 Conflict。"""
    await reserve_submissions(connection, rows)
    # 没有幂等键、没有要数的上限时事务里只有这一条语句：SQLAlchemy 不会另发 BEGIN 与 COMMIT，它自成一个事务。
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, asyncpg.Connection)
    try:
        return await insert_jobs(driver, rows)
    except asyncpg.PostgresError as error:
        # 不经 SQLAlchemy 的语句，它看不见：会话不能再用的，这一条与池里同时开的都丢掉。
        if error.sqlstate in UNUSABLE_SESSION:
            await connection.invalidate()
            await connection.engine.dispose()
        raise


_KNOWN = sa.text("SELECT job_id FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))")


async def require_dependencies(engine: AsyncEngine, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """所依赖的作业都要有；rows 是字段的前缀（job. 或 jobs[3].job.）-> 要求。否则抛 InvalidRequest。

    没有写依赖的不查库。
    """
    if any(row.get("dependency") for row in rows.values()):
        async with engine.connect() as connection:
            await _require_dependencies(connection, rows)


async def _require_dependencies(connection: AsyncConnection, rows: Mapping[str, Mapping[str, Any]]) -> None:
    wanted = {
        prefix: parse_dependency(row["dependency"]).job_ids for prefix, row in rows.items() if row.get("dependency")
    }
    job_ids = sorted({job_id for numbers in wanted.values() for job_id in numbers})
    if not job_ids:
        return
    known = set((await connection.execute(_KNOWN, {"job_ids": job_ids})).scalars())
    for prefix, numbers in wanted.items():
        missing = sorted(numbers - known)
        if missing:
            raise InvalidRequest(
                f"{prefix}dependency", f"没有作业 {missing[0]}；依赖的作业要先提交", code="dependency_unknown"
            )


async def submit_batch(
    engine: AsyncEngine, parts: Iterable[Mapping[str, dict[str, Any]]], claim: IdempotencyClaim | None = None
) -> list[int]:
    """一批作业，全有或全无，一个事务；parts 是一段一段的 字段的前缀（jobs[3].job.）-> 要写的行。

    边取边写：备下一段的时候，数据库在写上一段。claim 的键用过时返回当时的作业号；内容不同抛 Conflict。
    """
    async with engine.begin() as connection:
        # SQLAlchemy 到第一条语句才发 BEGIN，而 _insert 不经过它。
        await connection.execute(sa.select(1))
        claims = [] if claim is None else [claim]
        used = await _claim(connection, claims)
        if claim in used:
            return used[claim]
        job_ids: list[int] = []
        writing: asyncio.Task[list[int]] | None = None
        try:
            for part in parts:
                if writing is not None:
                    job_ids += await writing
                    writing = None
                await _require_dependencies(connection, part)
                writing = asyncio.create_task(_insert(connection, list(part.values())))
                # 让它先把这一段送出去。
                await asyncio.sleep(0)
        finally:
            # 备下一段时出了错，也要等这一段写完：连接还用着。
            if writing is not None:
                job_ids += await writing
        await _fill(connection, dict.fromkeys(claims, job_ids))
        return job_ids


async def _claim(connection: AsyncConnection, claims: Sequence[IdempotencyClaim]) -> dict[IdempotencyClaim, list[int]]:
    """占住幂等键；返回其中早已用过的及当时的作业号。内容不同抛 Conflict。"""
    if not claims:
        return {}
    columns = {"user_names": [claim.user_name for claim in claims], "keys": [claim.key for claim in claims]}
    hashes = [claim.request_hash for claim in claims]
    taken = {tuple(row) for row in await connection.execute(_CLAIM_KEYS, {**columns, "hashes": hashes})}
    if len(taken) == len(claims):
        return {}
    stored = {(row.user_name, row.key): row for row in await connection.execute(_READ_KEYS, columns)}
    used: dict[IdempotencyClaim, list[int]] = {}
    for claim in claims:
        row = stored[(claim.user_name, claim.key)]
        if row.request_hash != claim.request_hash:
            raise Conflict(
                f"幂等键 {claim.key!r} 已用于另一个内容不同的提交；请换一个 Idempotency-Key",
                code="idempotency_conflict",
            )
        if (claim.user_name, claim.key) not in taken:
            used[claim] = list(row.job_ids)
    return used


async def _fill(connection: AsyncConnection, job_ids: Mapping[IdempotencyClaim, Sequence[int]]) -> None:
    """记下这些键产生的作业号。"""
    if job_ids:
        await connection.execute(
            _FILL_KEYS,
            {
                "user_names": [claim.user_name for claim in job_ids],
                "keys": [claim.key for claim in job_ids],
                "job_ids": [f"{{{','.join(map(str, ids))}}}" for ids in job_ids.values()],
            },
        )


@dataclass(slots=True)
class _Waiting:
    row: dict[str, Any]
    claim: IdempotencyClaim | None
    done: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class SubmitQueue:
    """单个提交的合批：空闲时立即写；正在写的时候到的，合成下一批。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, row: dict[str, Any], claim: IdempotencyClaim | None = None) -> int:
        """提交一个作业，返回作业号；返回时已经落盘。"""
        item = _Waiting(row, claim)
        self._waiting.append(item)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return await item.done

    async def close(self) -> None:
        """等在途的写完。"""
        if self._writer is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer

    async def _write_all(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:GROUP_LIMIT], self._waiting[GROUP_LIMIT:]
                try:
                    job_ids = await self._write(batch)
                except Exception as error:
                    await self._write_each(batch, error)
                    continue
                for item, job_id in zip(batch, job_ids, strict=True):
                    _settle(item, job_id)
        except BaseException as error:
            # 这个任务死了没有别人知道：等着它的当场就都失败，不会一直等下去；下一个提交另起一个。
            logger.exception("submit_writer_died")
            for item in [*batch, *self._waiting]:
                if not item.done.done():
                    item.done.set_exception(RuntimeError(f"写提交的任务意外结束：{error!r}"))
            self._waiting = []
            raise
        finally:
            self._writer = None

    async def _write(self, batch: Sequence[_Waiting]) -> list[int]:
        # 同一批里同键同内容的是客户端的重送，只写一个作业。
        unique: dict[IdempotencyClaim | int, _Waiting] = {}
        for index, item in enumerate(batch):
            unique.setdefault(item.claim or index, item)
        async with self._engine.begin() as connection:
            claims = [item.claim for item in unique.values() if item.claim is not None]
            found: dict[IdempotencyClaim | int, int] = {
                claim: ids[0] for claim, ids in (await _claim(connection, claims)).items()
            }
            fresh = [key for key in unique if key not in found]
            if fresh:
                inserted = await _insert(connection, [unique[key].row for key in fresh])
                found.update(zip(fresh, inserted, strict=True))
                keyed = {key: [found[key]] for key in fresh if isinstance(key, IdempotencyClaim)}
                await _fill(connection, keyed)
        return [found[item.claim or index] for index, item in enumerate(batch)]

    async def _write_each(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """合批失败：数据库不在就都失败；否则逐个再试，一个坏的不连累别人。"""
        for item in batch:
            if len(batch) == 1 or _fails_all(error):
                if not item.done.done():
                    item.done.set_exception(error)
                continue
            try:
                _settle(item, (await self._write([item]))[0])
            except Exception as own:
                if not item.done.done():
                    item.done.set_exception(own)


def _settle(item: _Waiting, job_id: int) -> None:
    # 客户端断开时等待者已被取消；作业已经提交，幂等键会找到它。
    if not item.done.done():
        item.done.set_result(job_id)


def _fails_all(error: Exception) -> bool:
    """数据库不在，或等锁已经等到了时限：逐个再试只会一个接一个地再等。"""
    if isinstance(error, sa.exc.DBAPIError):
        return error.connection_invalidated
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in {*UNUSABLE_SESSION, LOCK_TIMEOUT}:
        return True
    return isinstance(error, OSError | TimeoutError | sa.exc.TimeoutError | asyncpg.PostgresConnectionError)
