"""谁能用哪个端点：api/roles.py 的表的每一格，用每一种令牌真的试一遍；协调人够不到自己账户之外。

能用的只看不是 401、403：请求体是空的，路径里的作业、节点都没有，所以什么也没有做成。
"""

import hashlib
import http.client
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from running_system import RunningSystem, as_user, database_url
from scns_conductor.api.roles import COLUMNS, RULES, allowed
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Grant, sign

_NONE = "999999999999"
_NUMBERS = {"job_id": _NONE, "step_id:int": "1", "webhook_id:int": _NONE, "association_id": _NONE, "id": _NONE,
            "stream": "stdout", "version": "v0.0.44"}  # fmt: skip
# 空着就会真的做起来的，写一个不合法的参数。
_BAD_QUERY = {
    "/simulate": "?since=%2A",
    "/reports/usage": "?since=%2A",
    # 不然会把自己的令牌都作废。
    "/tokens": f"?user={'x' * 300}",
}
NOBODY = "nobody-such"


def address_of(path: str) -> str:
    """路由的样子 -> 一个没有那样东西的地址。"""
    found = path
    for part in path.split("/"):
        if part.startswith("{"):
            found = found.replace(part, _NUMBERS.get(part[1:-1], NOBODY))
    return found + _BAD_QUERY.get(path, "")


@dataclass
class Lab:
    """一个账户 lab（下级 lab-sub）与一个别的账户；各种人各有令牌。"""

    system: RunningSystem
    account: str
    other: str
    tokens: dict[str, str | None]
    expired: str


def _job_token(system: RunningSystem) -> str:
    """一个正在运行的作业的令牌：单用户的系统没有，所以把摘要登记上。"""
    job_id = system.submit("sleep 600")
    system.wait_state(job_id, "RUNNING")
    token = f"scnsjob.{job_id}.0.{'a' * 64}"
    with psycopg.connect(database_url(system)) as connection:
        connection.execute(
            "UPDATE resource_allocations SET token_digest = %s WHERE job_id = %s",
            (hashlib.sha256(token.encode()).digest(), job_id),
        )
    return token


@pytest.fixture(scope="module")
def lab(running_system: RunningSystem) -> Iterator[Lab]:
    """建好的账户与令牌；离开时都删掉。"""
    word = uuid.uuid4().hex[:8]
    account, other = f"lab{word}", f"other{word}"
    users = {kind: f"{kind}{word}" for kind in ("plain", "coord", "oper", "audit")}
    for name in (account, other):
        assert running_system.call("POST", "/accounts", {"name": name})[0] == 201
    assert running_system.call("POST", "/accounts", {"name": f"{account}sub", "parent": account})[0] == 201
    for user in users.values():
        assert running_system.call("POST", "/associations", {"account": account, "user": user})[0] == 201
    assert running_system.call("POST", "/associations", {"account": other, "user": f"far{word}"})[0] == 201
    for kind, level in (("oper", "Operator"), ("audit", "Auditor")):
        assert running_system.call("PATCH", f"/users/{users[kind]}", {"admin_level": level})[0] == 200
    assert running_system.call("PUT", f"/accounts/{account}/coordinators/{users['coord']}")[0] == 204
    settings = Settings(data_dir=running_system.data_dir)

    def token(user: str, role: str = "user", *scopes: str) -> str:
        return sign(settings, Grant(user, role, scopes))[0]

    tokens = {
        "没有令牌": None,
        "作业令牌": _job_token(running_system),
        "普通用户": token(users["plain"]),
        "协调人": token(users["coord"]),
        "Operator": token(users["oper"]),
        "管理员": token("someone", "administrator"),
        "审计员": token(users["audit"]),
        "只读": token(users["plain"], "user", "read"),
        "只许提交": token(users["plain"], "user", "submit"),
    }
    yield Lab(running_system, account, other, tokens, sign(settings, Grant("root", "administrator"), -10)[0])
    running_system.cancel_everything()
    for name in (account, other):
        assert running_system.call("DELETE", f"/accounts/{name}")[0] == 200


def statuses(lab: Lab, token: str | None) -> dict[tuple[str, str], int]:
    """每个端点的状态码，一条连接问完。"""
    parts = urlsplit(lab.system.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    found = {}
    for method, path in RULES:
        body = "{}" if method in ("POST", "PATCH", "PUT") or path.endswith("/jobs") else None
        connection.request(method, address_of(path), body, headers)
        answer = connection.getresponse()
        answer.read()
        found[method, path] = answer.status
    connection.close()
    return found


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_cell_of_the_table(lab: Lab, kind: str) -> None:
    refused = 401 if kind == "没有令牌" else 403
    for endpoint, status in statuses(lab, lab.tokens[kind]).items():
        if allowed(RULES[endpoint], COLUMNS[kind]):
            assert status not in (401, 403, 405, 500), (endpoint, kind, status)
        else:
            assert status == refused, (endpoint, kind, status)


def test_an_expired_administrator_is_nobody(lab: Lab) -> None:
    for endpoint, status in statuses(lab, lab.expired).items():
        assert (status == 401) is not RULES[endpoint].is_open, (endpoint, status)


def test_a_read_only_administrator_changes_nothing(lab: Lab) -> None:
    token = sign(Settings(data_dir=lab.system.data_dir), Grant("someone", "administrator", ["read"]))[0]
    for endpoint, status in statuses(lab, token).items():
        assert (status == 403) is (RULES[endpoint].writes or RULES[endpoint].own), (endpoint, status)


def as_kind(lab: Lab, kind: str) -> RunningSystem:
    """同一个系统，换一种令牌。"""
    return replace(lab.system, token=str(lab.tokens[kind]))


def test_a_coordinator_manages_the_account_and_nothing_outside(lab: Lab) -> None:
    coordinator, (account, other) = as_kind(lab, "协调人"), (lab.account, lab.other)

    def refused(method: str, path: str, body: Any = None) -> None:
        status, answer = coordinator.call(method, path, body)
        assert (status, answer["code"]) == (403, "account_out_of_reach"), (method, path, answer)

    def association(name: str) -> int:
        rows = lab.system.call("GET", f"/associations?account={name}")[1]["associations"]
        return int(rows[-1]["association_id"])

    # 够不到：别的账户、上级、自己的账户自己的上限。
    refused("POST", "/accounts", {"name": "stolen"})
    refused("POST", "/accounts", {"name": "stolen", "parent": other})
    refused("POST", "/associations", {"account": other, "user": "guest"})
    refused("PATCH", f"/associations/{association(other)}", {"max_jobs": 9})
    refused("DELETE", f"/associations/{association(other)}")
    refused("PATCH", f"/accounts/{account}", {"max_jobs": 9})
    refused("DELETE", f"/accounts/{account}")
    refused("PATCH", f"/accounts/{account}sub", {"parent": other})
    refused("PUT", f"/accounts/{other}/coordinators/x")
    far = f"far{account.removeprefix('lab')}"
    refused("DELETE", f"/users/{far}")
    # 拉进自己的账户的别人，缺省账户还是他自己的：不然他以后的作业都归这里看。
    status, answer = coordinator.call("POST", "/associations", {"account": account, "user": far})
    assert status == 201, answer
    refused("PATCH", f"/users/{far}", {"default_account": account})
    assert coordinator.call("DELETE", f"/associations/{answer['association_id']}")[0] == 204
    # 不许用的 QOS 给不了别人。
    assert lab.system.call("POST", "/qos", {"name": f"gold{account}"})[0] == 201
    refused("POST", "/associations", {"account": account, "user": "guest", "qos": [f"gold{account}"]})
    status, answer = coordinator.call("POST", "/associations", {"account": account, "user": "guest", "priority": 1})
    assert (status, answer["code"]) == (403, "admin_required")
    # 够得到：自己的账户里的人，下级账户。
    status, answer = coordinator.call("POST", "/associations", {"account": account, "user": "guest", "max_jobs": 2})
    assert status == 201, answer
    assert coordinator.call("PATCH", f"/associations/{answer['association_id']}", {"max_jobs": 3})[0] == 200
    assert coordinator.call("PATCH", f"/accounts/{account}sub", {"max_jobs": 3})[0] == 200
    assert coordinator.call("POST", "/accounts", {"name": f"{account}new", "parent": account})[0] == 201
    assert coordinator.call("DELETE", f"/accounts/{account}new")[0] == 200
    assert coordinator.call("DELETE", f"/associations/{answer['association_id']}")[0] == 204
    assert lab.system.call("DELETE", f"/qos/gold{account}")[0] == 204


def test_jobs_are_within_reach_of_those_who_oversee_their_account(lab: Lab) -> None:
    submitter = as_kind(lab, "普通用户")

    def held(account: str) -> str:
        job = {"account": account, "hold": True, "current_working_directory": "/tmp"}
        status, answer = submitter.call("POST", "/jobs/submit", {"job": job, "script": "#!/bin/sh\ntrue\n"})
        assert status == 200, answer
        return str(answer["job_id"])

    inside, outside = held(lab.account), held(lab.other)
    coordinator, auditor = as_kind(lab, "协调人"), as_kind(lab, "审计员")
    assert coordinator.call("GET", f"/jobs/{inside}/script")[0] == 200
    assert coordinator.call("GET", f"/jobs/{outside}/script")[0] == 403
    assert coordinator.call("POST", f"/jobs/{outside}/cancel")[0] == 403
    assert auditor.call("GET", f"/jobs/{outside}/script")[0] == 200
    assert auditor.call("POST", f"/jobs/{outside}/cancel")[1]["code"] == "auditor_reads_only"
    assert as_kind(lab, "Operator").call("POST", f"/jobs/{outside}/cancel")[0] == 200
    # 管得了作业，不等于能以它的用户的身份运行东西。
    for overseer in (coordinator, as_kind(lab, "Operator")):
        status, answer = overseer.call("POST", f"/jobs/{inside}/steps", {"argv": ["id"]})
        assert (status, answer["code"]) == (403, "not_job_owner")
    assert coordinator.call("POST", f"/jobs/{inside}/cancel")[0] == 200
    assert [lab.system.query(job)["state"] for job in (inside, outside)] == ["CANCELLED", "CANCELLED"]


def test_a_token_of_one_account_submits_and_acts_only_there(lab: Lab) -> None:
    user = lab.system.call("GET", f"/associations?account={lab.account}")[1]["associations"][-1]["user_name"]
    token = sign(Settings(data_dir=lab.system.data_dir), Grant(user, account=lab.account))[0]
    limited, whole = replace(lab.system, token=token), as_user(lab.system, user)

    def submit(system: RunningSystem, **job: Any) -> tuple[int, Any]:
        job = {"hold": True, "current_working_directory": "/tmp", **job}
        return system.call("POST", "/jobs/submit", {"job": job, "script": "#!/bin/sh\ntrue\n"})

    status, answer = submit(limited)
    assert status == 200, answer
    own = answer["job_id"]
    assert lab.system.call("GET", f"/jobs/{own}")[1]["account"] == lab.account
    status, answer = submit(limited, account=lab.other)
    assert (status, answer["code"]) == (403, "token_scope")
    elsewhere = submit(whole, account=lab.other)[1]["job_id"]
    assert limited.call("POST", f"/jobs/{elsewhere}/cancel")[1]["code"] == "token_scope"
    assert limited.call("PATCH", f"/jobs/{own}", {"account": lab.other})[1]["code"] == "token_scope"
    assert limited.call("POST", "/tokens", {})[1]["code"] == "token_scope"
    # 定时的、遇事的作业在别的账户里的，换不掉、删不掉。
    entry = {"first_line": 0, "last_line": 0, "schedule": "0 0 1 1 *", "script": "#!/bin/sh\ntrue\n"}
    for account, code in ((lab.other, 403), (lab.account, 204)):
        job = {"account": account, "current_working_directory": "/tmp"}
        crontab = {"text": "0 0 1 1 * true", "entries": [{**entry, "job": job}]}
        assert whole.call("PUT", "/crontab", crontab)[0] in (200, 204)
        empty = limited.call("PUT", "/crontab", {"text": "", "entries": []})
        assert (empty[0] == 403) == (code == 403), empty
        wanted = {"event": "down", "program": "/bin/true", "script": "#!/bin/sh\ntrue\n", "job": job}
        trigger = whole.call("POST", "/triggers", wanted)[1]["trigger_id"]
        cleared = limited.call("DELETE", f"/triggers?trigger_id={trigger}")
        assert (cleared[0] == 403) == (code == 403), cleared
        if code == 403:
            assert (empty[1]["code"], cleared[1]["code"]) == ("token_scope", "token_scope")
            assert limited.call("DELETE", "/crontab")[1]["code"] == "token_scope"
            assert whole.call("DELETE", f"/triggers?trigger_id={trigger}")[0] == 200
    whole.call("DELETE", "/crontab")
    assert limited.call("POST", f"/jobs/{own}/cancel")[0] == 200
    assert whole.call("POST", f"/jobs/{elsewhere}/cancel")[0] == 200
