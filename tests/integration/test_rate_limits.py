"""限速：一个令牌的、一个地址的、不对的令牌的，超过的 429 与 Retry-After；见过的令牌不受别人乱试的影响。"""

import asyncio
import http.client
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from own_database import own_database
from running_system import RunningSystem, as_user, second_api, start_system, wait_until
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import Engines
from scns_conductor.services.shared_ledger import SharedLedger
from scns_conductor.statements.incarnation import change_incarnation

LIMITS = {
    "SCNS_RATE_LIMIT_PER_TOKEN": "5",
    "SCNS_RATE_LIMIT_PER_ADDRESS": "100000",
    "SCNS_BAD_TOKENS_PER_MINUTE": "6",
}


@pytest.fixture(scope="module")
def limited(scratch: Path) -> Iterator[RunningSystem]:
    """自己的一套：上限很低。"""
    with start_system(
        scratch / "limited", "--nodes", "1", "--cpus", "1", "--memory", "1G", environment=LIMITS
    ) as system:
        yield system


def many(system: RunningSystem, count: int) -> list[tuple[int, str | None]]:
    """一口气问 count 次，返回（状态码，Retry-After）。"""
    parts = urlsplit(system.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    found = []
    for _ in range(count):
        connection.request("GET", "/whoami", headers={"Authorization": f"Bearer {system.token}"})
        answer = connection.getresponse()
        answer.read()
        found.append((answer.status, answer.headers.get("Retry-After")))
    connection.close()
    return found


def test_a_token_asks_so_many_times_a_second(limited: RunningSystem) -> None:
    alice, bob = as_user(limited, "alice"), as_user(limited, "bob")
    found = many(alice, 200)
    assert found[0][0] == 200
    refused = [wait for status, wait in found if status == 429]
    assert refused
    assert all(wait and int(wait) >= 1 for wait in refused)
    # 别人的不受影响；过一会儿又行了。
    assert many(bob, 1)[0][0] == 200
    wait_until(lambda: many(alice, 1)[0][0] == 200, 60, "又有配额了")
    assert limited.call("GET", "/health/live")[0] == 200


def test_wrong_tokens_are_slowed_and_known_ones_are_not(limited: RunningSystem) -> None:
    known = as_user(limited, "carol")
    assert many(known, 1)[0][0] == 200
    wrong = [many(replace(limited, token=f"not.a.token{index}"), 1)[0] for index in range(30)]
    assert wrong[0][0] == 401
    assert wrong[-1][0] == 429
    assert int(wrong[-1][1] or 0) >= 1
    assert many(known, 1)[0][0] == 200


def test_two_api_processes_slow_one_name_down_together(engines: Engines, tmp_path: Path) -> None:
    async def tried() -> None:
        one, other, elsewhere = (SharedLedger(each) for each in (settings, settings, another))
        for ledger, its in ((one, settings), (other, settings), (elsewhere, another)):
            ledger.engine = async_engine(its)
        waits = [await each.try_login("eve", "a") for each in (one, other, one, other, one, other)]
        # 三次不罚；第四次失败之后，哪个进程都要等。等着的时候再来不算一次。
        assert waits[:4] == [0, 0, 0, 0]
        assert all(wait is not None and 0 < wait <= 1 for wait in waits[4:])
        assert (await other.try_login("mallory", "b"), await elsewhere.try_login("eve", "a")) == (0, 0)
        await other.login_succeeded("eve", "a")
        assert await one.try_login("eve", "a") == 0
        for each in (one, other, elsewhere):
            await each.close()
            assert each.engine is not None
            await each.engine.dispose()

    # 两套系统的库同名、集群同名也分得清：认的是数据库的化身。
    with own_database(engines, "t_ledger", tmp_path) as settings, own_database(engines, "t_two", tmp_path) as another:
        engine = sync_engine(another)
        with engine.begin() as connection:
            change_incarnation(connection, old=None, reason="另一套系统")
        engine.dispose()
        asyncio.run(tried())


def test_without_valkey_each_keeps_its_own_books(tmp_path: Path) -> None:
    async def tried() -> None:
        ledger = SharedLedger(Settings(redis_url=SecretStr(f"unix://{tmp_path}/nothing"), data_dir=tmp_path))
        assert await ledger.try_login("eve", "a") is None
        assert await ledger.add([("x", 1.0)]) is None
        await ledger.login_succeeded("eve", "a")
        await ledger.close()

    asyncio.run(tried())


@pytest.mark.faults
def test_two_api_processes_share_one_quota(scratch: Path) -> None:
    """一分钟 60 个，一口气用得完：在一个进程里用完了，另一个也不再核对——它自己一个也没有用过。"""
    slow = {"SCNS_RATE_LIMIT_PER_TOKEN": "0", "SCNS_RATE_LIMIT_PER_ADDRESS": "0", "SCNS_BAD_TOKENS_PER_MINUTE": "60"}
    with (
        start_system(scratch / "shared", "--nodes", "1", "--cpus", "1", "--memory", "1G", environment=slow) as system,
        second_api(system, slow) as second,
    ):
        number = itertools.count()

        def wrong(at: RunningSystem) -> int:
            return many(replace(at, token=f"not.a.token{next(number)}"), 1)[0][0]

        wait_until(lambda: wrong(system) == 429, 60, "第一个进程的用完了")
        used = next(number)
        assert used >= 60
        # 第二个进程一对账就知道：远不到它自己的 60 个。
        wait_until(lambda: wrong(second) == 429, 60, "第二个进程也不核对了")
        assert next(number) - used < 60
