"""消息队列只给了一个 ACL 用户：够用的照常，权限不够的算它不在——慢一个核对周期，谁也不因此死掉。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher

pytestmark = pytest.mark.faults
PASSWORD = "of-the-acl-user"
# RQ 的键与命令：管理、危险的（KEYS、INFO、FLUSHALL）都不给。
ENOUGH = ("~rq:*", "+@all", "-@admin", "-@dangerous")


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
