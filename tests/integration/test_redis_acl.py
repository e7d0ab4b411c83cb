"""消息队列只给了一个 ACL 用户：够用的照常，权限不够的算它不在——慢一个核对周期，谁也不因此死掉。"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.answers.health import ValkeyHealth
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.settings import Settings
from scns_conductor.core.valkey import LEAST_ACL
from scns_conductor.services.shared_ledger import SharedLedger
from scns_conductor.services.valkey_health import valkey_health
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher

pytestmark = pytest.mark.faults
PASSWORD = "of-the-acl-user"
# docs/deployment.md 写着的那一行。
ENOUGH = LEAST_ACL.split()


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    made = NodeYard(settings, tmp_path)
    yield made
    made.close()


def acl_user(yard: NodeYard, name: str, *rules: str) -> None:
    """建一个只有这些权限的用户，节点此后用它。"""
    owner = yard.urls["SCNS_REDIS_URL"]
    with redis.Redis.from_url(owner) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rules)
    scheme, _, rest = owner.partition("://")
    yard.urls["SCNS_REDIS_URL"] = f"{scheme}://{name}:{PASSWORD}@{rest.rpartition('@')[2]}"
    yard.publisher = Publisher(yard.urls["SCNS_REDIS_URL"])


def told_health(yard: NodeYard, settings: Settings, *nodes: str) -> ValkeyHealth:
    """健康检查怎样说节点现在用的这个用户。"""
    mine = settings.model_copy(update={"redis_url": type(settings.redis_url)(yard.urls["SCNS_REDIS_URL"])})
    return asyncio.run(valkey_health(mine, None, nodes))


def test_the_documented_line_is_the_tested_one() -> None:
    assert LEAST_ACL in (Path(__file__).parents[2] / "docs/deployment.md").read_text()


def test_the_least_rights_are_enough_for_everything(yard: NodeYard, settings: Settings) -> None:
    """健康检查说够；各个 API 合用的账也记得上（它的键不是 RQ 的）。"""
    acl_user(yard, "least", *ENOUGH)
    health = told_health(yard, settings)
    assert (health["status"], health["eviction_policy"], health["shortfalls"]) == ("ok", "noeviction", [])
    mine = settings.model_copy(update={"redis_url": type(settings.redis_url)(yard.urls["SCNS_REDIS_URL"])})

    async def entered() -> tuple[list[float] | None, float | None]:
        ledger, ledger.engine = SharedLedger(mine), async_engine(mine)
        try:
            return await ledger.add([("somebody", 1.0)]), await ledger.try_login("somebody", "127.0.0.1")
        finally:
            await ledger.close()
            await ledger.engine.dispose()

    reached, wait_s = asyncio.run(entered())
    assert reached is not None
    assert wait_s == 0


@pytest.mark.parametrize(
    ("rules", "status", "told"),
    [
        ([*ENOUGH, "-hset", "-rpush"], "unavailable", "缺少权限：键 rq:* 上的 hset、rpush；"),
        (["~scns:limits:*", "+@all"], "unavailable", "缺少权限"),
        (["~rq:*", "+@all"], "degraded", "缺少权限：键 scns:limits:* 上的 evalsha、get、set"),
        ([*ENOUGH, "-multi"], "degraded", "multi"),
        (["~rq:*", "+ping"], "unavailable", "llen"),
    ],
    ids=["少两个命令", "少 RQ 的键", "少合用的账的键", "少 MULTI", "只许 PING"],
)
def test_the_missing_right_is_named_and_nothing_is_written(
    yard: NodeYard, settings: Settings, rules: list[str], status: str, told: str
) -> None:
    with redis.Redis.from_url(yard.urls["SCNS_REDIS_URL"]) as owner:
        acl_user(yard, "lacking", *rules)
        health = told_health(yard, settings)
        assert health["status"] == status, health
        said = health.get("remedy") or health["shortfalls"][0]
        assert told in said, said
        assert LEAST_ACL in said
        assert list(owner.scan_iter("*scns-health*")) == []


def test_an_acl_user_with_a_wrong_password_is_told_apart(yard: NodeYard, settings: Settings) -> None:
    acl_user(yard, "other", *ENOUGH)
    yard.urls["SCNS_REDIS_URL"] = yard.urls["SCNS_REDIS_URL"].replace(PASSWORD, "wrong-one")
    health = told_health(yard, settings)
    assert health["status"] == "unavailable"
    assert "不认 SCNS_REDIS_URL 里的用户或口令" in health["remedy"]
    assert "wrong-one" not in health["remedy"]


def test_messages_that_nobody_takes_and_a_policy_that_loses_them_are_told(yard: NodeYard, settings: Settings) -> None:
    yard.publisher.send({"nobody-here": [Message("sync", {"job_ids": [1]})] * 3})
    with redis.Redis.from_url(yard.urls["SCNS_REDIS_URL"], decode_responses=True) as owner:
        before = {**owner.config_get("maxmemory"), **owner.config_get("maxmemory-policy")}
        try:
            owner.config_set("maxmemory", "4gb")
            owner.config_set("maxmemory-policy", "allkeys-lru")
            health = told_health(yard, settings, "nobody-here", "n2")
        finally:
            for name, value in before.items():
                owner.config_set(name, value)
            owner.delete("rq:queue:scns-node-nobody-here")
    assert (health["status"], health["waiting"]) == ("degraded", 3)
    assert "maxmemory-policy = allkeys-lru" in health["shortfalls"][0]


def test_a_user_of_our_keys_only_is_enough(yard: NodeYard) -> None:
    acl_user(yard, "enough", *ENOUGH)
    # 核对很久才来一次：作业启动得了就是消息到了。
    yard.start_agent(SCNS_RECONCILE_INTERVAL_S="3600")
    job = yard.run("true\n")
    assert yard.ended(job)["state"] == "COMPLETED"


def test_a_user_who_may_nothing_only_makes_it_slow(yard: NodeYard) -> None:
    acl_user(yard, "nobody", "+ping")
    yard.start_agent()
    job = yard.submit("true\n")
    yard.start(job, send=False)
    with pytest.raises(BusUnavailable, match="no permissions"):
        yard.publisher.send({"n1": [Message("launch", {"job_ids": [job]})]})
    assert yard.ended(job)["state"] == "COMPLETED"
    log = yard.work / "n1.log"
    wait_until(lambda: "bus_unavailable" in log.read_text(), "代理说出来")
    assert alive(yard.agents["n1"].pid)
