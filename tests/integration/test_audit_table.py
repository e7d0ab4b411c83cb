"""每个改东西的端点都真的做一遍，审计里都有一条；直接碰数据库的命令也是。没有一条的写明为什么。

请求号认出是哪一个请求写的：别的测试、后台的事不混进来。
"""

import hashlib
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from own_database import variables
from running_system import RunningSystem, as_user, database_url, wait_until
from scns_conductor.api.roles import RULES
from scns_conductor.core.settings import Settings, current_user_name, load_settings
from scns_conductor.core.tokens import claimed_user
from scns_conductor.local.database_command import db

Database = psycopg.Connection[tuple[Any, ...]]
V = "/slurm/v0.0.44"
DB = "/slurmdb/v0.0.44"

# 不写审计的，或在别处看的。
EXEMPT = {
    "POST /webhooks": "这套系统没有开 webhook；test_import_history.py 看 webhook.create",
    "POST /jobs/history": "会改以后的作业号；test_import_history.py 看 history.import",
    "POST /history/archive": "test_retention.py 看 history.archive",
    "POST /history/load": "test_retention.py 看 history.load",
    "POST /triggers": "定的总是自己的触发",
    "POST /jobs/{job_id}/steps": "只有本人能以自己的身份建立",
    "POST /jobs/{job_id}/steps/het": "只有本人能以自己的身份建立",
    "POST /jobs/{job_id}/steps/{step_id:int}/attach": "只有本人能接",
    "POST /jobs/{job_id}/steps/{step_id:int}/launch": "把同一条启动的消息再送一遍，什么也不改",
    "GET /slurm/{version}/reconfigure": "什么也不做",
    "POST /slurm/{version}/new/node": "总是拒绝（不支持）",
    "POST /slurmdb/{version}/clusters": "总是拒绝（不支持）",
    "DELETE /slurmdb/{version}/cluster/{cluster_name}": "总是拒绝（不支持）",
    "POST /slurmdb/{version}/tres": "总是拒绝（不支持）",
    "POST /slurmdb/{version}/wckeys": "总是拒绝（不支持）",
    "DELETE /slurmdb/{version}/wckey/{id}": "总是拒绝（不支持）",
}


class Watched:
    """发请求，记下哪个端点写了哪些审计。"""

    def __init__(self, system: RunningSystem, database: Database) -> None:
        self.system, self.database = system, database
        self.done: dict[str, list[str]] = {}

    def ask(self, system: RunningSystem, method: str, path: str, body: Any = None) -> tuple[int, Any, list[str]]:
        """（状态码，回答，这个请求写的审计的动作）。"""
        number = uuid.uuid4().hex
        headers = {"Content-Type": "application/json", "X-Request-ID": number}
        if system.token:
            headers["Authorization"] = f"Bearer {system.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(system.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, text = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        rows = self.database.execute("SELECT action FROM audit_log WHERE request_id = %s ORDER BY 1", (number,))
        return status, json.loads(text) if text else None, [row[0] for row in rows.fetchall()]

    def act(self, endpoint: str, path: str, body: Any = None, *, writes: str) -> Any:
        """endpoint 是表里的样子；管理员做这件事要成功，并且写下 writes。"""
        status, answer, actions = self.ask(self.system, endpoint.partition(" ")[0], path, body)
        assert status < 300, (endpoint, path, status, answer)
        assert writes in actions, (endpoint, actions)
        self.done.setdefault(endpoint, []).append(writes)
        return answer


@pytest.fixture(scope="module")
def watched(running_system: RunningSystem) -> Iterator[Watched]:
    with psycopg.connect(database_url(running_system), autocommit=True) as database:
        yield Watched(running_system, database)


def test_every_endpoint_that_changes_something_is_in_the_audit(watched: Watched) -> None:
    word = uuid.uuid4().hex[:8]
    _tokens_and_webhooks(watched, word)
    _accounting(watched, word)
    _accounting_of_slurmrestd(watched, word)
    _cluster(watched, word)
    _jobs_of_others(watched, word)
    wanted = {
        f"{method} {path}"
        for (method, path), rule in RULES.items()
        if (rule.writes or (rule.own and method != "GET")) and not rule.submits
    }
    assert EXEMPT.keys() <= wanted
    assert not EXEMPT.keys() & watched.done.keys()
    assert sorted(wanted - watched.done.keys() - EXEMPT.keys()) == []


def _tokens_and_webhooks(watched: Watched, word: str) -> None:
    made = watched.act("POST /tokens", "/tokens", {"name": word}, writes="token.create")
    watched.act("DELETE /tokens/{token_id}", f"/tokens/{made['token_id']}", writes="token.revoke")
    watched.act("DELETE /tokens", f"/tokens?user=ghost{word}", writes="token.revoke_all")
    letters = word.upper().translate(str.maketrans("0123456789AEIOU", "BCDFGHJKLMNPQRS"))
    for code, allow in ((f"{letters[:4]}-{letters[4:]}", True), (f"{letters[4:]}-{letters[:4]}", False)):
        watched.database.execute(
            "INSERT INTO device_logins (device_digest, user_code, host, address, expires_at) "
            "VALUES (%s, %s, 'login1', '10.0.0.9', now() + interval '5 minutes')",
            (hashlib.sha256(code.encode()).digest(), code),
        )
        action = "device.approve" if allow else "device.deny"
        watched.act("POST /auth/device/{user_code}", f"/auth/device/{code}", {"allow": allow}, writes=action)
    row = watched.database.execute(
        "INSERT INTO webhooks (user_name, scope, url, format, events, secret, after_job_event, after_cluster_event) "
        "VALUES ('ada', 'user', 'https://example.org/', 'json', '{job.ended}', %s, 0, 0) RETURNING webhook_id",
        ("whsec_" + "A" * 32,),
    ).fetchone()
    assert row is not None
    own = "/webhooks/{webhook_id:int}"
    place = f"/webhooks/{row[0]}"
    watched.act(f"POST {own}/ping", f"{place}/ping", writes="webhook.ping")
    watched.act(f"POST {own}/redeliver", f"{place}/redeliver", {}, writes="webhook.redeliver")
    watched.act(f"PATCH {own}", place, {"active": False}, writes="webhook.update")
    watched.act(f"DELETE {own}", place, writes="webhook.delete")


def _accounting(watched: Watched, word: str) -> None:
    account, user, qos = f"aud{word}", f"usr{word}", f"qos{word}"
    watched.act("POST /accounts", "/accounts", {"name": account}, writes="account.create")
    watched.act("PATCH /accounts/{name}", f"/accounts/{account}", {"description": "x"}, writes="account.update")
    place = "/associations/{association_id}"
    for _ in range(2):
        made = watched.act(
            "POST /associations", "/associations", {"account": account, "user": user}, writes="association.create"
        )
        number = made["association_id"]
        watched.act(f"PATCH {place}", f"/associations/{number}", {"max_jobs": 3}, writes="association.update")
        coordinator = "/accounts/{name}/coordinators/{user}"
        own = f"/accounts/{account}/coordinators/{user}"
        watched.act(f"PUT {coordinator}", own, writes="coordinator.add")
        watched.act(f"DELETE {coordinator}", own, writes="coordinator.remove")
        watched.act("PATCH /users/{name}", f"/users/{user}", {"admin_level": "Operator"}, writes="user.update")
        if f"DELETE {place}" not in watched.done:
            watched.act(f"DELETE {place}", f"/associations/{number}", writes="association.delete")
        else:
            watched.act("DELETE /users/{name}", f"/users/{user}", writes="user.delete")
    watched.act("DELETE /accounts/{name}", f"/accounts/{account}", writes="account.delete")
    watched.act("POST /qos", "/qos", {"name": qos}, writes="qos.create")
    watched.act("PATCH /qos/{name}", f"/qos/{qos}", {"priority": 3}, writes="qos.update")
    watched.act("DELETE /qos/{name}", f"/qos/{qos}", writes="qos.delete")


def _accounting_of_slurmrestd(watched: Watched, word: str) -> None:
    path = "/slurmdb/{version}"
    account, user, qos = f"rest{word}", f"restu{word}", f"restq{word}"
    condition = {"association_condition": {"accounts": [account], "association": {}}, "account": {"description": "d"}}
    watched.act(f"POST {path}/accounts_association", f"{DB}/accounts_association", condition, writes="account.create")
    people = {"association_condition": {"users": [user], "accounts": [account]}, "user": {}}
    watched.act(f"POST {path}/users_association", f"{DB}/users_association", people, writes="association.create")
    one = {"accounts": [{"name": account, "description": "e"}]}
    watched.act(f"POST {path}/accounts", f"{DB}/accounts", one, writes="account.update")
    person = {"users": [{"name": user, "default": {"account": account}, "administrator_level": ["Operator"]}]}
    watched.act(f"POST {path}/users", f"{DB}/users", person, writes="user.update")
    place = f"?account={account}&user={user}"
    watched.act(f"DELETE {path}/association", f"{DB}/association{place}", writes="association.delete")
    bound = {"associations": [{"account": account, "user": user}]}
    watched.act(f"POST {path}/associations", f"{DB}/associations", bound, writes="association.create")
    watched.act(f"DELETE {path}/associations", f"{DB}/associations{place}", writes="association.delete")
    watched.act(f"POST {path}/config", f"{DB}/config", bound, writes="association.create")
    watched.act(f"DELETE {path}/user/{{name}}", f"{DB}/user/{user}", writes="user.delete")
    watched.act(f"DELETE {path}/account/{{account_name}}", f"{DB}/account/{account}", writes="account.delete")
    watched.act(f"POST {path}/qos", f"{DB}/qos", {"qos": [{"name": qos}]}, writes="qos.create")
    watched.act(f"DELETE {path}/qos/{{qos}}", f"{DB}/qos/{qos}", writes="qos.delete")


def _cluster(watched: Watched, word: str) -> None:
    node, partition, booking = f"cloud{word}", f"part{word}", f"book{word}"
    watched.act("POST /diag/reset", "/diag/reset", writes="diag.reset")
    watched.act("POST /cluster/apply", "/cluster/apply", {"qos": [{"name": f"app{word}"}]}, writes="cluster.apply")
    assert watched.system.call("DELETE", f"/qos/app{word}")[0] == 204
    for number in (1, 2):
        body = {"name": f"{node}{number}", "cpus": 1, "memory": "1G"}
        watched.act("POST /nodes", "/nodes", body, writes="node.declare")
    # 声明了的关着：当它开着，重启才要得了；它没有代理，什么也不会发生。
    watched.database.execute("UPDATE nodes SET power_state = 'ON' WHERE name LIKE %s", (f"{node}%",))
    watched.act("PATCH /nodes/{name}", f"/nodes/{node}1", {"weight": 7}, writes="node.update")
    watched.act("POST /nodes/{name}/reboot", f"/nodes/{node}1/reboot", {}, writes="node.reboot")
    watched.act("DELETE /nodes/{name}/reboot", f"/nodes/{node}1/reboot", writes="node.reboot_cancel")
    rest = "/slurm/{version}"
    drained = {"state": ["DRAIN"], "reason": "x"}
    watched.act(f"POST {rest}/node/{{node_name}}", f"{V}/node/{node}2", drained, writes="node.update")
    watched.act(f"POST {rest}/nodes", f"{V}/nodes", {"name": [f"{node}1"], **drained}, writes="node.update")
    watched.act("POST /partitions", "/partitions", {"name": partition, "nodes": "node1"}, writes="partition.create")
    watched.act("PATCH /partitions/{name}", f"/partitions/{partition}", {"priority_tier": 2}, writes="partition.update")
    watched.act("DELETE /partitions/{name}", f"/partitions/{partition}", writes="partition.delete")
    body = {"name": booking, "start_time": "2036-01-01", "duration": "60", "nodes": f"{node}1", "users": ["root"]}
    watched.act("POST /reservations", "/reservations", body, writes="reservation.create")
    watched.act("PATCH /reservations/{name}", f"/reservations/{booking}", {"comment": "y"}, writes="reservation.update")
    watched.act("DELETE /reservations/{name}", f"/reservations/{booking}", writes="reservation.delete")
    number = {"set": True, "infinite": False}
    booked = {
        "name": booking, "start_time": {**number, "number": 4_000_000_000}, "duration": {**number, "number": 60},
        "node_list": [f"{node}1"], "users": ["root"],
    }  # fmt: skip
    watched.act(f"POST {rest}/reservation", f"{V}/reservation", booked, writes="reservation.create")
    more = {"reservations": [{"name": booking, "users": ["root", "alice"]}]}
    watched.act(f"POST {rest}/reservations", f"{V}/reservations", more, writes="reservation.update")
    watched.act(
        f"DELETE {rest}/reservation/{{reservation_name}}", f"{V}/reservation/{booking}", writes="reservation.delete"
    )
    watched.act("DELETE /nodes/{name}", f"/nodes/{node}1", writes="node.delete")
    watched.act(f"DELETE {rest}/node/{{node_name}}", f"{V}/node/{node}2", writes="node.delete")


def _jobs_of_others(watched: Watched, word: str) -> None:
    """管理员动 ada 的作业、作业步、crontab、触发；ada 动自己的不写。"""
    ada = as_user(watched.system, "ada")
    job, rest, records = "/jobs/{job_id}", "/slurm/{version}", "/slurmdb/{version}"

    def submitted(**values: Any) -> str:
        return ada.submit("#!/bin/sh\nsleep 600\n", name=f"audited{word}", **values)

    waiting = submitted(hold=True)
    assert watched.ask(ada, "PATCH", f"/jobs/{waiting}", {"comment": "mine"})[2] == []
    watched.act(f"PATCH {job}", f"/jobs/{waiting}", {"comment": "x"}, writes="job.update")
    both = {"job_ids": [waiting], "changes": {"comment": "w"}}
    watched.act("PATCH /jobs", "/jobs", both, writes="job.update")
    watched.act(f"POST {rest}/job/{{job_id}}", f"{V}/job/{waiting}", {"comment": "y"}, writes="job.update")
    watched.act(f"POST {job}/release", f"/jobs/{waiting}/release", writes="job.release")
    watched.system.wait_state(waiting, "RUNNING")

    def stepped() -> Any:
        status, answer = ada.call("POST", f"/jobs/{waiting}/steps", {"argv": ["sleep", "600"]})
        return answer if status == 201 else None

    step = wait_until(stepped, what="节点就绪，作业步")
    own, place = f"{job}/steps/{{step_id:int}}", f"/jobs/{waiting}/steps/{step['step_id']}"
    watched.act(f"PATCH {own}", place, {"time_limit": 600}, writes="step.update")
    watched.act(f"POST {own}/signal", f"{place}/signal", {"signal": "USR1"}, writes="step.signal")
    watched.act(f"POST {job}/signal", f"/jobs/{waiting}/signal", {"signal": "WINCH"}, writes="job.signal")
    watched.act(f"POST {job}/suspend", f"/jobs/{waiting}/suspend", writes="job.suspend")
    watched.system.wait_state(waiting, "SUSPENDED")
    watched.act(f"POST {job}/resume", f"/jobs/{waiting}/resume", writes="job.resume")
    watched.system.wait_state(waiting, "RUNNING")
    watched.act(f"POST {job}/requeue", f"/jobs/{waiting}/requeue", writes="job.requeue")
    wait_until(lambda: watched.system.query(waiting)["state"] in ("PENDING", "RUNNING"), what="重新排队")
    watched.act("POST /jobs/cancel/{job_id}", f"/jobs/cancel/{waiting}", writes="job.cancel")
    held = [submitted(hold=True) for _ in range(5)]
    watched.act(f"POST {job}/hold", f"/jobs/{held[0]}/hold", writes="job.hold")
    watched.act(f"POST {job}/cancel", f"/jobs/{held[0]}/cancel", writes="job.cancel")
    many = {"action": "cancel", "job_ids": [held[1]]}
    watched.act("POST /jobs/control", "/jobs/control", many, writes="job.cancel")
    watched.act(f"DELETE {rest}/job/{{job_id}}", f"{V}/job/{held[2]}", writes="job.cancel")
    watched.act(f"DELETE {rest}/jobs", f"{V}/jobs", {"jobs": [held[3]]}, writes="job.cancel")
    note = {"comment": {"administrator": "z"}}
    watched.act(f"POST {records}/job/{{job_id}}", f"{DB}/job/{held[0]}", note, writes="job.annotate")
    body = {"job_id_list": [held[1]], "job_rec": {"comment": {"administrator": "w"}}}
    watched.act(f"POST {records}/jobs", f"{DB}/jobs", body, writes="job.annotate")
    status, answer = ada.call("POST", f"{V}/job/allocate", {"job": {"name": f"audited{word}", "tasks": 1}})
    assert status == 200, answer
    allocation = str(answer["job_id"])
    watched.system.wait_state(allocation, "RUNNING")
    watched.act(
        f"POST {job}/release_allocation", f"/jobs/{allocation}/release_allocation", {}, writes="job.release_allocation"
    )
    entry = {"first_line": 0, "last_line": 0, "schedule": "0 0 1 1 *", "job": {"current_working_directory": "/tmp"}}
    tab = {"text": "0 0 1 1 * true", "entries": [{**entry, "script": "#!/bin/sh\ntrue\n"}]}
    assert watched.ask(ada, "PUT", "/crontab", tab)[::2] == (204, [])
    watched.act("PUT /crontab", "/crontab?user=ada", tab, writes="crontab.replace")
    watched.act("DELETE /crontab", "/crontab?user=ada", writes="crontab.delete")
    submit = {"job": {"current_working_directory": "/tmp"}, "script": "#!/bin/sh\ntrue\n"}
    trigger = {"event": "fini", "job_id": held[4], "program": "/bin/true", **submit}
    status, answer, actions = watched.ask(ada, "POST", "/triggers", trigger)
    assert (status, actions) == (201, []), answer
    watched.act("DELETE /triggers", f"/triggers?trigger_id={answer['trigger_id']}", writes="trigger.delete")


def forged(system: RunningSystem) -> RunningSystem:
    """自称是谁（forged…）、签名不对的令牌。"""
    found = as_user(system, f"forged{uuid.uuid4().hex[:6]}")
    head, body, _ = found.token.split(".")
    return replace(found, token=f"{head}.{body}.{'A' * 43}")


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/jobs", None), ("POST", "/qos", {"name": "x"})])
def test_a_token_that_is_not_good_is_in_the_audit_once(watched: Watched, method: str, path: str, body: Any) -> None:
    """没有带令牌的不是试着冒充谁；伪造的写一条，说出它自称是谁。"""
    assert watched.ask(replace(watched.system, token=""), method, path, body)[::2] == (401, [])
    tried: list[RunningSystem] = []

    def written() -> bool:
        # 一个地址一分钟至多几十条，别的测试也许刚用完：换一个再来。
        tried.append(forged(watched.system))
        status, answer, actions = watched.ask(tried[-1], method, path, body)
        assert (status, answer["code"]) == (401, "token_invalid")
        return actions == ["token.refused"]

    wait_until(written, 90, "审计里的一条")
    # 同样的不再写。
    assert watched.ask(tried[-1], method, path, body)[::2] == (401, [])
    rows = watched.database.execute(
        "SELECT actor, method, after, address FROM audit_log WHERE action = 'token.refused' AND target = %s",
        (claimed_user(tried[-1].token),),
    ).fetchall()
    assert rows == [("(unknown)", "token", {"code": "token_invalid"}, "127.0.0.1")]


def test_commands_that_touch_the_database_are_in_the_audit(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scns db 与 scns token 的命令（历史的导出与装回见 test_retention.py，换密钥见 test_tokens_live.py）。"""
    role = f"bi{uuid.uuid4().hex[:8]}"
    for name, value in {**variables(settings), "SCNS_DATA_DIR": str(tmp_path / "data")}.items():
        monkeypatch.setenv(name, value)

    def scns(*words: str) -> None:
        # 在这个进程里：六个命令各起一个太慢。
        load_settings.cache_clear()
        done = CliRunner().invoke(db, words, catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)

    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as database:
        scns("reporting-role", role)
        scns("retention", "set", "--move-after", "50d")
        scns("backup", str(tmp_path / "dump"))
        scns("downgrade", "0033", "--yes")
        scns("upgrade")
        scns("restored")
        rows = database.execute("SELECT action, target, method, actor FROM audit_log ORDER BY audit_id").fetchall()
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    load_settings.cache_clear()
    assert [row[0] for row in rows] == [
        "reporting.grant", "retention.set", "database.backup", "database.downgrade", "database.upgrade",
        "database.restored",
    ]  # fmt: skip
    assert (rows[0][1], rows[2][1]) == (role, str(tmp_path / "dump"))
    assert {row[2:] for row in rows} == {("command", current_user_name())}
