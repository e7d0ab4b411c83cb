"""webhook：哪些地址不许连，哪件事说给谁，请求写成什么样子、怎样签名，群消息里用户的文字只是文字。"""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from scns_conductor.core.outbound import refusal
from scns_conductor.core.webhooks import CLUSTER_EVENTS, EVENTS, check_url, events_of, job_event, new_secret, secret_key
from scns_conductor.worker.background.retries import GIVE_UP_S, NEVER, retry_s
from scns_conductor.worker.background.webhook_events import (
    subscriptions,
    told_of_cluster,
    told_of_jobs,
    told_of_reservations,
)
from scns_conductor.worker.background.webhook_message import line_of, refused, request_of, signature

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "240.0.0.1",
        "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.1.1.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "fec0::1",
    ],
)  # fmt: skip
def test_inner_addresses_are_refused_unless_allowed(address: str) -> None:
    assert refusal(ip_address(address), [])
    assert refusal(ip_address(address), [ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")])


def test_public_and_allowed_addresses_are_connected_to() -> None:
    for address in ("1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"):
        assert refusal(ip_address(address), []) is None
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    assert refusal(ip_address("10.1.2.3"), allowed) is None
    assert refusal(ip_address("::ffff:10.1.2.3"), allowed) is None
    assert refusal(ip_address("fd00::5"), allowed) is None
    assert refusal(ip_address("10.2.0.1"), allowed)


@pytest.mark.parametrize(
    "url",
    ["ftp://a/", "http://", "https:///x", "http://u@h/", "http://h:0/", "http://h:99999/", "http://h/#x",
     "http://h/a b", "http://h/\n", "http://[::1]/", "http://127.0.0.1:80/", "http://例子.cn/", "//h/x", "http://[::1/"],
)  # fmt: skip
def test_bad_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        check_url(url, [])


def test_events_are_named_grouped_and_matched() -> None:
    assert events_of(["*"]) == set(EVENTS) - {"node.idle"}
    assert "job.timeout" in events_of(["job.ended"]) & events_of(["job.unsuccessful"])
    assert not {"job.completed", "job.cancelled", "job.started"} & events_of(["job.unsuccessful"])
    nodes = {"node.up", "node.down", "node.draining", "node.drained", "node.resumed"}
    assert events_of(["node.*"]) == nodes
    # 每个作业结束都可以有一件的，写明了才有。
    assert events_of(["node.*", "node.idle"]) == {*nodes, "node.idle"}
    for bad in (["nodes.*"], [], ["job.ended", "x"]):
        with pytest.raises(ValueError):
            events_of(bad)
    changes = [(None, "PENDING"), ("PENDING", "RUNNING"), ("SUSPENDED", "RUNNING"), ("RUNNING", "PENDING")]
    assert [job_event(*change) for change in changes] == [
        "job.submitted", "job.started", "job.resumed", "job.requeued",
    ]  # fmt: skip
    assert job_event("RUNNING", "OUT_OF_MEMORY") == "job.out_of_memory"
    assert job_event("PENDING", "PENDING") is None


def hook(webhook_id: int, scope: str = "user", **values: Any) -> Any:
    known = {
        "webhook_id": webhook_id, "scope": scope, "user_name": "ada", "account": None, "events": ["*"],
        "as_coordinator": False,
        "after_job_event": 0, "after_cluster_event": 0, "created_at": BEGAN,
    }  # fmt: skip
    return SimpleNamespace(**{**known, **values})


def event(event_id: int, from_state: str | None, to_state: str, **values: Any) -> Any:
    """JOB_EVENTS_AFTER 的一行。"""
    known = {
        "event_id": event_id, "job_id": 7, "restart_count": 0, "event_time": BEGAN, "from_state": from_state,
        "to_state": to_state, "cause": "exit", "actor": "agent@n1", "message": None, "name": "train",
        "user_name": "ada", "account": "physics", "partition": "main", "qos": None, "array_job_id": None,
        "array_task_id": None, "het_job_id": None, "submit_time": BEGAN, "start_time": BEGAN,
        "end_time": BEGAN + timedelta(seconds=90), "suspended_s": 0, "time_limit": 3600, "node_list": "n1",
        "allocated_cpus": 4, "allocated_memory": 8192, "exit_status": 3, "exit_signal": 0, "max_rss_kb": 102400,
        "cpu_user_s": 80.0, "cpu_system_s": 1.0, "state_now": to_state,
    }  # fmt: skip
    return SimpleNamespace(**{**known, **values})


def test_a_change_is_told_to_whom_it_concerns() -> None:
    parents = {"root": None, "science": "root", "physics": "science", "law": "root"}
    hooks = subscriptions(
        [
            hook(1), hook(2, user_name="bob"), hook(3, "account", account="science"), hook(4, "account", account="law"),
            hook(5, "cluster"), hook(6, "cluster", after_job_event=20), hook(7, "cluster", events=["job.failed"]),
        ],
        parents,
    )  # fmt: skip
    rows = [event(11, None, "PENDING"), event(12, "PENDING", "PENDING"), event(21, "RUNNING", "FAILED")]
    told = [(one.event, one.webhook_id) for one in told_of_jobs(rows, hooks, "c")]
    assert told == [("job.submitted", each) for each in (1, 3, 5)] + [("job.failed", each) for each in (1, 3, 5, 6, 7)]
    body = json.loads(told_of_jobs(rows[2:], hooks[:1], "c")[0].payload)
    assert body["type"] == "job.failed"
    assert body["data"]["exit_code"] == "3:0"
    assert (body["data"]["elapsed_s"], body["data"]["memory_peak_mb"]) == (90, 100)
    assert body["data"]["cpu_efficiency"] == 0.225
    # 读到时又重新排队了：不拿现在的去说从前的。
    assert (
        "exit_code"
        not in json.loads(
            told_of_jobs([event(5, "RUNNING", "FAILED", state_now="PENDING")], hooks[:1], "c")[0].payload
        )["data"]
    )


def test_a_former_coordinator_hears_nothing() -> None:
    parents = {"root": None, "science": "root", "physics": "science"}
    row = hook(1, "account", account="physics", as_coordinator=True)
    assert not subscriptions([row], parents, {("bob", "physics"), ("ada", "law")})
    for account in ("physics", "science", "root"):
        assert subscriptions([row], parents, {("ada", account)})


def test_nodes_and_reservations_are_told_to_the_cluster_only() -> None:
    hooks = subscriptions([hook(1, events=["*"]), hook(2, "cluster"), hook(3, "cluster", events=["job.*"])], {})
    down = SimpleNamespace(event_id=1, created_at=BEGAN, event="node.down", subject="n1", detail={"reason": "x"})
    assert [one.webhook_id for one in told_of_cluster([down], hooks, "c")] == [2]
    minutes = timedelta(minutes=1)
    daily = SimpleNamespace(
        name="r", start_time=BEGAN - timedelta(days=3, minutes=-5), end_time=BEGAN - timedelta(days=3, minutes=-7),
        flags=["DAILY"], nodes="n1", users=[], accounts=[],
    )  # fmt: skip

    def said(since: datetime, now: datetime) -> list[str]:
        return [one.event for one in told_of_reservations([daily], hooks, "c", since, now)]

    assert said(BEGAN, BEGAN + 4 * minutes) == []
    assert said(BEGAN + 4 * minutes, BEGAN + 5 * minutes) == ["reservation.started"]
    assert said(BEGAN + 5 * minutes, BEGAN + 6 * minutes) == []
    assert said(BEGAN + 6 * minutes, BEGAN + 10 * minutes) == ["reservation.ended"]
    assert said(BEGAN, BEGAN + 10 * minutes) == ["reservation.started", "reservation.ended"]


def test_the_signature_is_the_standard_one() -> None:
    """Standard Webhooks 规范里的例子。"""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected
    assert len(secret_key(new_secret())) == 32
    for bad in ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_AAAA", "whsec_!!!!", "whsec_" + "A" * 200):
        with pytest.raises(ValueError):
            secret_key(bad)


def messages(*names: str) -> list[tuple[str, str]]:
    hooks = subscriptions([hook(1)], {})
    return [
        ("msg_1", told_of_jobs([event(1, "RUNNING", "FAILED", name=name)], hooks, "c")[0].payload) for name in names
    ]


def test_chats_get_plain_text_signed_their_way() -> None:
    evil = "<!channel> <@u1> @all *粗*\n换行"
    slack = json.loads(request_of("slack", "https://h/s", None, messages(evil, "b"), 1000.0).body)
    assert slack["mrkdwn"] is False
    assert "&lt;!channel&gt;" in slack["text"]
    assert len(slack["text"].split("\n")) == 2
    ding = request_of("dingtalk", "https://h/d?access_token=t", "SEC1", messages(evil), 1000.0)
    assert not set("<>@") & set(json.loads(ding.body)["text"]["content"])
    sign = base64.b64encode(hmac.digest(b"SEC1", b"1000000\nSEC1", hashlib.sha256)).decode()
    assert ding.url == "https://h/d?access_token=t&timestamp=1000000&sign=" + sign.replace("+", "%2B").replace(
        "/", "%2F"
    ).replace("=", "%3D")
    feishu = json.loads(request_of("feishu", "https://h/f", "S", messages(evil), 1000.0).body)
    assert feishu["sign"] == base64.b64encode(hmac.digest(b"1000\nS", b"", hashlib.sha256)).decode()
    ((part,),) = feishu["content"]["post"]["zh_cn"]["content"]
    assert part["tag"] == "text"
    assert "sign" not in json.loads(request_of("feishu", "https://h/f", None, messages("a"), 1000.0).body)
    wecom = json.loads(request_of("wecom", "https://h/w", None, messages(*["长" * 60] * 20), 1000.0).body)
    assert len(wecom["text"]["content"].encode()) <= 2048
    for kind in ("feishu", "dingtalk", "wecom"):
        assert refused(kind, b'{"errcode":0}') is None
    assert "19021" in str(refused("feishu", b'{"code":19021,"msg":"sign match fail"}'))
    assert refused("wecom", b"not json") is None
    english = json.loads(request_of("slack", "https://h/s", None, messages("a"), 1000.0, "en").body)["text"]
    assert english.startswith("❌ job 7 a (ada)")
    assert "收得到" in line_of({"type": "ping", "cluster": "c", "data": {}})
    for event in CLUSTER_EVENTS:
        kind = event.partition(".")[0]
        line = line_of({"type": event, "cluster": "c", "data": {kind: "name"}})
        assert "name" in line
        assert event not in line


def test_retries_double_and_end() -> None:
    assert [retry_s(attempts, 0) for attempts in (1, 2, 3, 20)] == [30, 60, 120, 3600]
    assert retry_s(1, GIVE_UP_S + 1) == NEVER
