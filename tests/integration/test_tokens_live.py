"""登记过的令牌：签发、列出、作废（几个 API 进程都认）、最近一次用、范围；删了的用户；换密钥；审计。"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

import warm_commands
from running_system import (
    RunningSystem,
    as_user,
    database_url,
    second_api,
    server_environment,
    start_system,
    wait_until,
)
from scns_conductor.core.settings import Settings
from scns_conductor.core.signing_keys import read_key


@pytest.fixture(scope="module")
def own(scratch: Path) -> Iterator[RunningSystem]:
    """自己的一套：要换它的密钥，作废全部令牌。"""
    with start_system(scratch / "tokens", "--nodes", "1", "--cpus", "2", "--memory", "2G") as system:
        yield system


@pytest.fixture(scope="module")
def second(own: RunningSystem) -> Iterator[str]:
    """同一个数据库的第二个 API 进程的地址。"""
    with second_api(own) as other:
        yield other.url


def created(system: RunningSystem, **wanted: Any) -> tuple[RunningSystem, str]:
    """签发一个，返回（换上它的系统，它的号）。"""
    status, answer = system.call("POST", "/tokens", wanted)
    assert status == 201, answer
    return replace(system, token=answer["token"]), answer["token_id"]


def test_a_revoked_token_is_refused_by_every_api_process(own: RunningSystem, second: str) -> None:
    system, token_id = created(own, user_name="alice", name="ci")
    elsewhere = replace(system, url=second)
    assert system.call("GET", "/whoami")[1]["token_id"] == token_id
    assert elsewhere.call("GET", "/whoami")[0] == 200
    assert own.call("DELETE", f"/tokens/{token_id}")[0] == 204
    began = time.monotonic()
    status, answer = system.call("GET", "/whoami")
    assert (status, answer["code"]) == (401, "token_revoked")
    wait_until(lambda: elsewhere.call("GET", "/whoami")[0] == 401, 5, "别的 API 进程也不认")
    # 约定是一秒之内；这里放宽，机器忙时也不误报。
    assert time.monotonic() - began < 5
    # 再作废一次不变；没有的、别人的是 404。
    assert own.call("DELETE", f"/tokens/{token_id}")[0] == 204
    assert own.call("DELETE", "/tokens/nothing")[1]["code"] == "token_not_found"
    _, other = created(own, user_name="bob")
    assert as_user(own, "alice").call("DELETE", f"/tokens/{other}")[0] == 404


def test_tokens_are_listed_with_their_last_use(own: RunningSystem) -> None:
    alice = as_user(own, "carol")
    system, token_id = created(alice, name="笔记本", scopes=["read"], account="lab", lifetime_s=3600)
    assert system.call("GET", "/jobs")[0] == 200

    def row() -> dict[str, Any]:
        return next(each for each in alice.call("GET", "/tokens")[1]["tokens"] if each["token_id"] == token_id)

    assert (row()["name"], row()["scopes"], row()["account"], row()["role"]) == ("笔记本", ["read"], "lab", "user")
    wait_until(lambda: row()["last_used_at"], 60, "最近一次用写下了")
    assert row()["last_used_from"] == "127.0.0.1"
    assert {each["user_name"] for each in alice.call("GET", "/tokens")[1]["tokens"]} == {"carol"}
    assert alice.call("GET", "/tokens?user=*")[0] == 403
    assert len({each["user_name"] for each in own.call("GET", "/tokens?user=*")[1]["tokens"]}) > 1
    # 库里没有令牌，也没有推得出它的东西。
    with psycopg.connect(database_url(own)) as connection:
        stored = str(connection.execute("SELECT * FROM access_tokens").fetchall())
    assert system.token not in stored
    assert system.token.rpartition(".")[2] not in stored


def test_only_administrators_issue_roles_and_for_others(own: RunningSystem) -> None:
    user = as_user(own, "dave")
    for wanted in ({"role": "auditor"}, {"role": "operator"}, {"admin": True}, {"user_name": "erin"}):
        assert user.call("POST", "/tokens", wanted)[1]["code"] == "admin_required", wanted
    auditor, _ = created(own, user_name="frank", role="auditor")
    assert auditor.call("GET", "/whoami")[1]["role"] == "auditor"
    assert auditor.call("GET", "/audit")[0] == 200
    assert created(own, user_name="gina", role="operator")[0].call("GET", "/whoami")[1]["role"] == "operator"


def test_a_deleted_user_s_tokens_are_refused_and_new_ones_work(own: RunningSystem) -> None:
    assert own.call("POST", "/associations", {"account": "root", "user": "henry"})[0] == 201
    loose, (registered, _) = as_user(own, "henry"), created(own, user_name="henry")
    assert loose.call("GET", "/whoami")[0] == registered.call("GET", "/whoami")[0] == 200
    assert own.call("DELETE", "/users/henry")[0] == 204
    for system in (loose, registered):
        status, answer = wait_until(lambda system=system: refused(system), 5, "不认了")
        assert (status, answer["code"]) == (401, "token_revoked")
    assert own.call("POST", "/associations", {"account": "root", "user": "henry"})[0] == 201
    assert created(own, user_name="henry")[0].call("GET", "/whoami")[0] == 200
    assert own.call("DELETE", "/users/henry")[0] == 204


def refused(system: RunningSystem) -> tuple[int, Any] | None:
    status, answer = system.call("GET", "/whoami")
    return (status, answer) if status == 401 else None


def run(system: RunningSystem, *words: str) -> "subprocess.CompletedProcess[str]":
    """一条 scns 命令，用这个系统的令牌与数据目录。"""
    environment = {**server_environment(system), **system.environment}
    return warm_commands.run([Path(sys.executable).with_name("scns"), *words], env=environment)


def test_the_key_is_rotated_without_logging_anybody_out(own: RunningSystem) -> None:
    old = as_user(own, "iris")
    assert old.call("GET", "/whoami")[0] == 200
    before = read_key(Settings(data_dir=own.data_dir).jwt_key_path)
    said = run(own, "token", "rotate-key", "--grace", "1-0")
    assert said.returncode == 0, said.stderr
    assert read_key(Settings(data_dir=own.data_dir).jwt_key_path) != before
    fresh = as_user(own, "iris")
    wait_until(lambda: fresh.call("GET", "/whoami")[0] == 200, 60, "API 看到新的密钥")
    assert old.call("GET", "/whoami")[0] == 200
    assert own.call("GET", "/audit?action=key.rotate")[1]["audit"][0]["after"] == {"grace_s": 86400}
    # 泄露了：旧的立即不认，连同再早的。
    assert run(own, "token", "rotate-key", "--grace", "0").returncode == 0
    newest = as_user(own, "iris")
    wait_until(lambda: newest.call("GET", "/whoami")[0] == 200, 60, "API 看到新的密钥")
    for system in (old, fresh, own):
        assert system.call("GET", "/whoami")[1]["code"] == "token_invalid"
    issued = run(own, "token", "--admin")
    own.token = issued.stdout.strip()
    assert own.call("GET", "/whoami")[1]["role"] == "administrator"


def test_the_commands(own: RunningSystem) -> None:
    issued = run(own, "token", "create", "夜间", "--scope", "submit", "--lifetime", "1-0", "--json")
    assert issued.returncode == 0, issued.stderr
    answer = json.loads(issued.stdout)
    listed = run(own, "token", "list")
    assert answer["token_id"] in listed.stdout
    assert "夜间" in listed.stdout
    assert run(own, "token", "revoke", answer["token_id"]).returncode == 0
    wrong = run(own, "token", "revoke", "nothing")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)
    assert run(own, "token", "revoke").returncode == 2
    assert run(replace(own, token=answer["token"]), "token", "list").returncode == 1


def test_the_audit_tells_who_did_what_and_cannot_be_changed(own: RunningSystem) -> None:
    assert own.call("PATCH", "/nodes/node1", {"state": "DRAIN", "reason": "换内存"})[0] == 200
    assert own.call("PATCH", "/nodes/node1", {"state": "RESUME"})[0] == 200
    resumed, drained = own.call("GET", "/audit?action=node&target=node1&limit=2")[1]["audit"]
    assert (drained["action"], drained["role"], drained["address"]) == ("node.update", "administrator", "127.0.0.1")
    assert (drained["before"]["drain"], drained["after"]["drain"], drained["after"]["reason"]) == (
        False,
        True,
        "换内存",
    )
    assert resumed["before"]["reason"] == "换内存"
    assert resumed["request_id"] != drained["request_id"]
    # 没有做成的不写。
    assert own.call("PATCH", "/nodes/nowhere", {"weight": 3})[0] == 404
    assert own.call("GET", "/audit?target=nowhere")[1]["audit"] == []
    # 动别人的作业的写，动自己的不写。
    user = as_user(own, "jack")
    job = {"hold": True, "current_working_directory": "/tmp"}
    jobs = [user.call("POST", "/jobs/submit", {"job": job, "script": "#!/bin/sh\n:\n"})[1]["job_id"] for _ in range(2)]
    assert user.call("POST", f"/jobs/{jobs[0]}/cancel")[0] == 200
    assert own.call("POST", f"/jobs/{jobs[1]}/cancel")[0] == 200
    found = own.call("GET", "/audit?action=job")[1]["audit"]
    assert [(each["target"], each["after"]) for each in found] == [(jobs[1], {"users": ["jack"]})]
    with psycopg.connect(database_url(own), autocommit=True) as connection:
        for statement in ("UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                connection.execute(statement)


def test_what_was_refused_is_in_the_audit_once_a_minute(own: RunningSystem) -> None:
    user = as_user(own, "kate")
    for _ in range(3):
        assert user.call("DELETE", "/nodes/node1")[0] == 403
    assert user.call("GET", "/audit")[0] == 403
    assert user.call("POST", "/slurm/v0.0.41/node/node1", {"state": ["DRAIN"]})[0] == 403
    # 看自己的、没有的不写。
    assert user.call("GET", "/jobs")[0] == 200
    assert user.call("DELETE", "/webhooks/77")[0] == 404
    found = own.call("GET", "/audit?action=request.refused&actor=kate")[1]["audit"]
    assert [each["target"] for each in found] == [
        "POST /slurm/v0.0.41/node/node1", "GET /audit", "DELETE /nodes/node1",
    ]  # fmt: skip
    assert all((each["role"], each["address"]) == ("user", "127.0.0.1") for each in found)
    assert {each["after"]["code"] for each in found} == {"admin_required"}


def test_the_audit_is_exported_once_each(own: RunningSystem, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    assert run(own, "audit", "export", "--file", str(file)).returncode == 0
    first = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["audit_id"] for each in first] == sorted(each["audit_id"] for each in first)
    assert own.call("PATCH", "/nodes/node1", {"weight": 7})[0] == 200
    assert run(own, "audit", "export", "--file", str(file)).returncode == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[: len(first)] == first
    assert [(each["action"], each["after"]) for each in lines[len(first) :]] == [("node.update", {"weight": 7})]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        state = tmp_path / "state"
        address = f"127.0.0.1:{server.getsockname()[1]}"
        state.write_text(str(lines[-2]["audit_id"]))
        assert run(own, "audit", "export", "--syslog", address, "--state", str(state)).returncode == 0
        text = server.recv(65536).decode()
    assert json.loads(text.partition("scns-audit: ")[2].rstrip("\0"))["after"] == {"weight": 7}
    assert int(state.read_text()) == lines[-1]["audit_id"]
    assert run(own, "audit", "export").returncode == 2
