"""用量的汇总与逐秒地数出来的一样：随机的尝试、挂起、迟报的结束、提前交还的节点，横跨日与月；随时汇总都不差。"""

import asyncio
import itertools
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor import migrations
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.database import database_url, sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.core.usage_periods import Stretch, recent, stretches, whole_hours
from scns_conductor.services.usage_report import usage_over_time, usage_report
from scns_conductor.services.usage_rollup import back_fill, roll_up
from scns_conductor.statements.usage import DECAYED_USAGE, decay_values

# 月末前两天：几天长的作业跨过月界。
BASE = datetime(2026, 1, 29, 22, 17, tzinfo=UTC)
MEASURES = ("jobs", "cpu_s", "memory_mb_s", "node_s", "gpu_s")
Counted = dict[tuple[str, str, int], dict[str, Fraction]]
Database = psycopg.Connection[tuple[Any, ...]]


def connect(settings: Settings) -> Database:
    return psycopg.connect(database_url(settings), autocommit=True)


class History:
    """随机的历史：写进数据库，同时自己记下每一段占用，供逐段地数。"""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        # （键，开始，结束，CPU，内存，GPU）与（键，结束时刻）。
        self.spans: list[tuple[tuple[str, str, int], datetime, datetime, int, int, int]] = []
        self.ends: list[tuple[tuple[str, str, int], datetime]] = []

    def later(self, moment: datetime, most_s: float) -> datetime:
        return moment + timedelta(microseconds=self.dice.randrange(int(most_s * 1e6) + 1))

    def job(self, database: Database) -> None:
        """一个作业，至多三次尝试。"""
        with database.transaction():
            self._job(database)

    def _job(self, database: Database) -> None:
        account, user = self.dice.choice((None, "lab", "lab", "bio")), self.dice.choice(("alice", "bob"))
        found = database.execute(
            "INSERT INTO jobs (name, user_name, account, partition, current_working_directory, script) "
            "VALUES ('x', %s, %s, 'main', '/', 'true') RETURNING job_id",
            (user, account),
        ).fetchone()
        assert found is not None
        (job_id,) = found
        moment = self.later(BASE, 40 * 3600)
        attempts = self.dice.randint(1, 3)
        for attempt in range(attempts):
            last = attempt == attempts - 1
            moment = self._attempt(database, job_id, attempt, (account or "", user), moment, last=last)

    def _attempt(
        self, database: Database, job_id: int, attempt: int, who: tuple[str, str], began: datetime, *, last: bool
    ) -> datetime:
        # 有的几秒，有的几天；有的正好在整点结束。
        ended = self.later(began, self.dice.choice((0, 30, 7200, 3 * 86400)))
        if self.dice.random() < 0.2:
            ended = max(began, ended.replace(minute=0, second=0, microsecond=0))
        # 迟报：放开得比真正结束晚，也许晚一个月。
        released = self.later(ended, self.dice.choice((0, 1, 3600, 30 * 86400)))
        pauses, edge = [], began
        for _ in range(self.dice.randint(0, 2)):
            start = self.later(edge, 3600)
            edge = self.later(start, 7200)
            pauses.append((start, edge))
        self._write_events(database, job_id, attempt, began, ended, pauses)
        nodes = self.dice.randint(1, 3)
        shares = []
        for index in range(nodes):
            cpus, memory, gpus = self.dice.randint(1, 8), self.dice.randint(0, 4096), self.dice.choice((0, 0, 2))
            # 抢占而挂起时借出去的，结束时还没有拿回来。
            lent = cpus if self.dice.random() < 0.2 else 0
            # 第二个起的节点可能提前交还。
            gone = self.later(began, 7200) if index and self.dice.random() < 0.5 else released
            database.execute(
                "INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, lent_cpus, "
                "memory, gres, created_at, released_at, tasks) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1)",
                (job_id, attempt, f"n{index}", index, cpus - lent, lent, memory,
                 f'{{"gpu:a100": {gpus}}}' if gpus else "{}", began, gone),
            )  # fmt: skip
            shares.append((cpus, memory, gpus, min(gone, ended)))
        key = (*who, sum(share[0] for share in shares))
        for cpus, memory, gpus, gone in shares:
            for start, end in _without(began, gone, pauses):
                self.spans.append((key, start, end, cpus, memory, gpus))
        if last:
            self.ends.append((key, max(share[3] for share in shares)))
        database.execute("UPDATE jobs SET state = 'RUNNING', start_time = %s WHERE job_id = %s", (began, job_id))
        if last:
            change = "state = 'COMPLETED', end_time = %s"
        else:
            change = "state = 'PENDING', start_time = NULL, restart_count = restart_count + 1, eligible_time = %s"
        database.execute(f"UPDATE jobs SET {change} WHERE job_id = %s", (ended, job_id))
        return self.later(released, 3600)

    @staticmethod
    def _write_events(
        database: Database,
        job_id: int,
        attempt: int,
        began: datetime,
        ended: datetime,
        pauses: list[tuple[datetime, datetime]],
    ) -> None:
        rows = [(began, "PENDING", "RUNNING")]
        for start, end in pauses:
            if start >= ended:
                break
            rows.append((start, "RUNNING", "SUSPENDED"))
            if end < ended:
                rows.append((end, "SUSPENDED", "RUNNING"))
        rows.append((ended, rows[-1][2], "COMPLETED"))
        for moment, before, after in rows:
            database.execute(
                "INSERT INTO job_events (job_id, restart_count, event_time, from_state, to_state, cause, actor) "
                "VALUES (%s, %s, %s, %s, %s, 'x', 'x')",
                (job_id, attempt, moment, before, after),
            )

    def count(self, since: datetime, until: datetime) -> dict[tuple[str, str, int], dict[str, Fraction]]:
        """逐段地数。"""
        found: dict[tuple[str, str, int], dict[str, Fraction]] = defaultdict(
            lambda: dict.fromkeys(MEASURES, Fraction())
        )
        for key, start, end, cpus, memory, gpus in self.spans:
            micros = (min(end, until) - max(start, since)) // timedelta(microseconds=1)
            if micros > 0:
                for name, amount in zip(MEASURES[1:], (cpus, memory, 1, gpus), strict=True):
                    found[key][name] += Fraction(amount * micros, 1_000_000)
        for key, moment in self.ends:
            if since <= moment < until:
                found[key]["jobs"] += 1
        return {key: values for key, values in found.items() if any(values.values())}


def _without(
    began: datetime, ended: datetime, pauses: list[tuple[datetime, datetime]]
) -> list[tuple[datetime, datetime]]:
    found, edge = [], began
    for start, end in pauses:
        found.append((edge, min(start, ended)))
        edge = max(edge, end)
    found.append((edge, ended))
    return [(start, end) for start, end in found if start < end]


def _next(start: datetime, every: str) -> datetime:
    """下一天、下一月的开头（当地的）。"""
    if every == "day":
        return start + timedelta(days=1)
    return (start.replace(day=1) + timedelta(days=32)).replace(day=1)


async def _reported(engine: AsyncEngine, since: datetime, until: datetime) -> Counted:
    rows = (await usage_report(engine, since, until))["usage"]
    return {
        (row["account"] or "", row["user_name"], row["job_cpus"]): {name: Fraction(row[name]) for name in MEASURES}
        for row in rows
    }


def _same(found: dict[Any, dict[str, Fraction]], wanted: dict[Any, dict[str, Fraction]]) -> None:
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        # 汇总是精确的，答案是 double。
        assert {name: float(value) for name, value in found[key].items()} == pytest.approx(
            {name: float(value) for name, value in values.items()}, rel=1e-12
        ), key


@examples(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_rollups_are_what_counting_every_span_gives(settings: Settings, seed: int) -> None:
    history = History(seed)
    dice = random.Random(seed)

    async def scenario(database: Database) -> None:
        engine = async_engine(settings)
        database.execute("TRUNCATE jobs, usage_rollups, usage_due CASCADE")
        for _ in range(20):
            history.job(database)
            if dice.random() < 0.2:
                await roll_up(engine)
        for _ in range(6):
            since = BASE + timedelta(hours=dice.randint(-30, 24 * 70))
            until = since + timedelta(hours=dice.choice((0, 1, 26, 24 * 9, 24 * 80)))
            floor, ceiling = whole_hours(since, until)
            _same(await _reported(engine, since, until), history.count(floor, ceiling))
            # 两个一起做也不重。
            await asyncio.gather(roll_up(engine), roll_up(engine))
            _same(await _reported(engine, since, until), history.count(floor, ceiling))
            zone = dice.choice(("UTC", "Asia/Shanghai"))
            every = dice.choice(("day", "month"))
            series = await usage_over_time(engine, since, until, every, ["account", "user"], zone)
            for row in series["rows"]:
                slot = max(row["start"], series["since"]), min(_next(row["start"], every), series["until"])
                counted = history.count(*slot)
                for name in MEASURES:
                    wanted = sum(
                        values[name]
                        for key, values in counted.items()
                        if key[:2] == (row["account"] or "", row["user"])
                    )
                    assert row[name] == pytest.approx(float(wanted), rel=1e-9)
        everything = history.count(BASE, BASE + timedelta(days=400))
        assert everything
        _same(await _reported(engine, BASE - timedelta(days=60), BASE + timedelta(days=400)), everything)
        await engine.dispose()
        # 日与月的汇总就是小时的汇总的合计。
        for period in ("day", "month"):
            differing = database.execute(
                "SELECT count(*) FROM (SELECT sum(cpu_s), sum(jobs), sum(gpu_s), sum(wall_s), account, user_name, "
                "date_trunc(%(period)s, start, 'UTC') AS slot FROM usage_rollups WHERE period = 'hour' "
                "GROUP BY account, user_name, slot EXCEPT SELECT sum(cpu_s), sum(jobs), sum(gpu_s), sum(wall_s), "
                "account, user_name, start FROM usage_rollups WHERE period = %(period)s "
                "GROUP BY account, user_name, start) AS d",
                {"period": period},
            ).fetchone()
            assert differing == (0,)

    with connect(settings) as database:
        asyncio.run(scenario(database))


def test_decayed_usage_is_the_integral_over_every_moment(settings: Settings) -> None:
    history = History(7)
    half_life = 30 * 86400.0
    with connect(settings) as database:
        for _ in range(40):
            history.job(database)
        now = max(end for _, _, end, *_ in history.spans).timestamp() + 86400
        wanted: dict[tuple[str, str], float] = defaultdict(float)
        for (account, user, _), start, end, cpus, _, _ in history.spans:
            # 十分钟一段地积。
            step = timedelta(minutes=10)
            while start < end:
                stop = min(end, start + step)
                age = now - (start + (stop - start) / 2).timestamp()
                wanted[account or "-", user] += cpus * (stop - start).total_seconds() * 0.5 ** (age / half_life)
                start = stop
        engine = sync_engine(settings)
        values = {**decay_values(now, half_life), "none": "-"}

        def decayed() -> dict[tuple[str, str], float]:
            with engine.connect() as connection:
                return {(row.account, row.user_name): row.used for row in connection.execute(DECAYED_USAGE, values)}

        assert decayed() == pytest.approx(wanted, rel=1e-5)

        async def rolled() -> None:
            other = async_engine(settings)
            await roll_up(other)
            await other.dispose()

        asyncio.run(rolled())
        assert database.execute("SELECT count(*) FROM usage_due").fetchone() == (0,)
        # 一日长的一格按重心衰减，差不到千分之一。
        assert decayed() == pytest.approx(wanted, rel=1e-3)
        engine.dispose()


def test_energy_is_spread_over_the_run_and_survives_the_roll_up(settings: Settings) -> None:
    """两个节点各量了一份；挂起的一小时不摊。刚结束的 GPU 作业还在等最后一次采样，先不加进去。"""
    began = datetime(2026, 1, 31, 22, 0, tzinfo=UTC)

    def job(database: Database, start: datetime, end: datetime, pause: tuple[datetime, datetime]) -> int:
        found = database.execute(
            "INSERT INTO jobs (name, user_name, account, partition, current_working_directory, script) "
            "VALUES ('gpu', 'ada', 'lab', 'main', '/', 'true') RETURNING job_id"
        ).fetchone()
        assert found is not None
        for index in range(2):
            database.execute(
                "INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, gres, "
                "created_at, released_at, tasks) VALUES (%s, 0, %s, %s, 1, 0, '{\"gpu\": 1}', %s, %s, 1)",
                (found[0], f"n{index}", index, start, end),
            )
            database.execute(
                "INSERT INTO job_samples (job_id, restart_count, node_name, since, width_s, elapsed_s, cpu_s, "
                "memory_mb, gpu_energy_j) VALUES (%s, 0, %s, %s, 30, 60, '{1}', '{7}', %s)",
                (found[0], f"n{index}", start, 3.6e6 * (1 + index)),
            )
        database.execute("UPDATE jobs SET state = 'RUNNING', start_time = %s WHERE job_id = %s", (start, found[0]))
        History._write_events(database, found[0], 0, start, end, [pause])
        database.execute("UPDATE jobs SET state = 'COMPLETED', end_time = %s WHERE job_id = %s", (end, found[0]))
        return int(found[0])

    async def energies(engine: AsyncEngine) -> tuple[float, list[float]]:
        whole = (await usage_report(engine, began - timedelta(hours=1), began + timedelta(hours=9)))["usage"]
        slots = await usage_over_time(engine, began, began + timedelta(hours=4), "hour", ["account"], "UTC")
        return sum(row["energy_j"] for row in whole), [row["energy_j"] for row in slots["rows"]]

    async def scenario(database: Database) -> None:
        engine = async_engine(settings)
        # 22 点到次月 2 点，23 点到 0 点挂起：三个小时分三千瓦时。
        wanted = (pytest.approx(3 * 3.6e6), pytest.approx([3.6e6] * 3))
        with database.transaction():
            job(database, began, began + timedelta(hours=4), (began + timedelta(hours=1), began + timedelta(hours=2)))
        assert await energies(engine) == wanted
        assert await roll_up(engine) == 1
        assert await energies(engine) == wanted
        months = database.execute(
            "SELECT CAST(others ->> 'energy' AS float8) / 3.6e6 FROM usage_rollups WHERE period = 'month' "
            "ORDER BY start"
        ).fetchall()
        assert [each[0] for each in months] == pytest.approx([1, 2])
        view = database.execute("SELECT CAST(sum(energy_kwh) AS float8) FROM reporting.usage_daily").fetchone()
        assert view == (pytest.approx(3),)
        now = datetime.now(UTC)
        with database.transaction():
            fresh = job(database, now - timedelta(minutes=9), now, (now, now))
        assert await roll_up(engine) == 0
        database.execute("UPDATE job_samples SET gpu_energy_j = gpu_energy_j * 2 WHERE job_id = %s", (fresh,))
        database.execute(
            "UPDATE resource_allocations SET released_at = released_at - interval '4 minutes' WHERE job_id = %s",
            (fresh,),
        )
        assert await roll_up(engine) == 1
        latest = (await usage_report(engine, now - timedelta(hours=1), now + timedelta(hours=1)))["usage"]
        assert sum(row["energy_j"] for row in latest) == pytest.approx(6 * 3.6e6)
        await engine.dispose()

    with connect(settings) as database:
        asyncio.run(scenario(database))


def test_jobs_that_ended_before_the_upgrade_are_filled_in_once(empty_settings: Settings) -> None:
    migrations.upgrade(empty_settings, "0020")
    history = History(11)
    with connect(empty_settings) as database:
        for _ in range(30):
            history.job(database)
        # 迟报一个月的也都在升级之前放开了。
        migrations.upgrade(empty_settings)
        # 升级之后结束的归触发器。
        for _ in range(10):
            history.job(database)
        database.execute("UPDATE jobs SET partition = 'main'")
        since, until = BASE - timedelta(days=3), BASE + timedelta(days=150)

        async def fill() -> None:
            engine = async_engine(empty_settings)
            while await back_fill(engine):
                pass
            assert not await back_fill(engine)
            await roll_up(engine)
            _same(await _reported(engine, since, until), history.count(*whole_hours(since, until)))
            await engine.dispose()

        asyncio.run(fill())
        assert database.execute("SELECT count(*) FROM usage_backfill").fetchone() == (0,)


@given(st.integers(0, 24 * 1200), st.integers(0, 24 * 500))
def test_stretches_cover_every_hour_once(start: int, length: int) -> None:
    since = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=start)
    until = since + timedelta(hours=length)
    chosen = sorted(stretches(since, until), key=lambda stretch: stretch.since)
    edge = since
    for stretch in chosen:
        assert stretch.since == edge
        edge = stretch.until
    assert edge == until
    assert sum(_slots(stretch) for stretch in chosen) <= 2 * 23 + 2 * 30 + length // (24 * 28)


def _slots(stretch: Stretch) -> int:
    length = stretch.until - stretch.since
    if stretch.period == "month":
        return (stretch.until.year - stretch.since.year) * 12 + stretch.until.month - stretch.since.month
    return length // (timedelta(hours=1) if stretch.period == "hour" else timedelta(days=1))


@given(st.integers(0, 10**8), st.floats(60, 400 * 86400), st.floats(60, 400 * 86400))
def test_recent_stretches_join_at_a_day(offset: int, window: float, fine: float) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=offset)
    chosen = recent(now, timedelta(seconds=window), timedelta(seconds=fine))
    assert chosen[0].since <= now - timedelta(seconds=window)
    assert chosen[-1].until > now
    assert all(one.until == other.since for one, other in itertools.pairwise(chosen))
