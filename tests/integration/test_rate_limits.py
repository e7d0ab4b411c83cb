"""限速：一个令牌的、一个地址的、不对的令牌的，超过的 429 与 Retry-After；见过的令牌不受别人乱试的影响。"""

import http.client
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from running_system import RunningSystem, as_user, start_system, wait_until

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
    wait_until(lambda: many(alice, 1)[0][0] == 200, 10, "又有配额了")
    assert limited.call("GET", "/health/live")[0] == 200


def test_wrong_tokens_are_slowed_and_known_ones_are_not(limited: RunningSystem) -> None:
    known = as_user(limited, "carol")
    assert many(known, 1)[0][0] == 200
    wrong = [many(replace(limited, token=f"not.a.token{index}"), 1)[0] for index in range(30)]
    assert wrong[0][0] == 401
    assert wrong[-1][0] == 429
    assert int(wrong[-1][1] or 0) >= 1
    assert many(known, 1)[0][0] == 200
