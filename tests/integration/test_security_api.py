"""威胁表里经过 API 的每一行（docs/security.md）：没有令牌的人、别的用户、普通用户各够得到什么。"""

import base64
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from running_system import RunningSystem, as_user

LOGIN_PATHS = {f"/auth/{name}" for name in ("methods", "login", "oidc", "oidc/finish", "device", "device/token")}
OPEN_PATHS = {"/health/live", "/health/ready", *LOGIN_PATHS}


def endpoints(system: RunningSystem) -> list[tuple[str, str]]:
    """接口文档里的全部端点；路径参数填上一个样子对的值。"""
    status, document = system.call("GET", "/openapi.json")
    assert status == 200
    filled = []
    for path, methods in document["paths"].items():
        real = path.replace("{stream}", "stdout")
        while "{" in real:
            real = real[: real.index("{")] + "1" + real[real.index("}") + 1 :]
        filled += [(method.upper(), real) for method in methods if path not in OPEN_PATHS]
    assert len(filled) > 15
    return filled


def test_without_a_token_nothing_but_health_and_login_answers(running_system: RunningSystem) -> None:
    nobody = RunningSystem(running_system.data_dir, running_system.process, running_system.url, "")
    for method, path in endpoints(running_system):
        status, answer = nobody.call(method, path, {} if method in ("POST", "PATCH", "PUT") else None)
        assert status == 401, (method, path, status, answer)
        assert answer["code"].startswith("token_"), (method, path)


def forged_tokens(system: RunningSystem) -> dict[str, str]:
    now = int(time.time())
    claims = {"sun": "root", "iat": now, "exp": now + 3600, "scns_admin": True}
    key = (system.data_dir / "jwt.key").read_bytes().strip()
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    genuine = system.token.split(".")
    promoted = jwt.decode(as_user(system, "mallory").token, options={"verify_signature": False}) | {"scns_admin": True}
    swapped = base64.urlsafe_b64encode(json.dumps(promoted).encode()).rstrip(b"=").decode()
    return {
        "没有签名": f"{head.decode()}.{body.decode()}.",
        "别的密钥": jwt.encode(claims, "x" * 64, algorithm="HS256"),
        "过期": jwt.encode({**claims, "exp": now - 10}, key, algorithm="HS256"),
        "没有期限": jwt.encode({"sun": "root", "iat": now, "scns_admin": True}, key, algorithm="HS256"),
        "没有用户": jwt.encode({"iat": now, "exp": now + 3600}, key, algorithm="HS256"),
        "改了内容": f"{genuine[0]}.{swapped}.{genuine[2]}",
        "乱码": "not.a.token",
    }


def test_forged_and_expired_tokens_are_refused(running_system: RunningSystem) -> None:
    for name, token in forged_tokens(running_system).items():
        stranger = RunningSystem(running_system.data_dir, running_system.process, running_system.url, token)
        status, answer = stranger.call("GET", "/jobs")
        assert status == 401, (name, status, answer)


def test_another_user_sees_no_script_environment_or_output_and_touches_nothing(running_system: RunningSystem) -> None:
    owner, other = as_user(running_system, "alice"), as_user(running_system, "bob")
    secret = "机密的内容"
    job_id = owner.submit(f"echo {secret}; sleep 300\n", environment={"HIDDEN": secret})
    running_system.wait_state(job_id, "RUNNING")
    for path in (f"/jobs/{job_id}/script", f"/jobs/{job_id}/logs/stdout", f"/jobs/{job_id}/logs/stdout?follow=true"):
        status, answer = other.call("GET", path)
        assert status == 403, (path, status)
        assert secret not in json.dumps(answer, ensure_ascii=False)
    for path in (f"/jobs/{job_id}", "/jobs", f"/jobs/{job_id}/events", f"/jobs/query/{job_id}", "/dashboard"):
        status, answer = other.call("GET", path)
        assert secret not in json.dumps(answer, ensure_ascii=False), path
    attempts: list[tuple[str, str, Any]] = [
        ("POST", f"/jobs/cancel/{job_id}", None),
        ("POST", f"/jobs/{job_id}/cancel", None),
        ("POST", f"/jobs/{job_id}/signal", {"signal": "KILL"}),
        ("PATCH", f"/jobs/{job_id}", {"comment": "改了"}),
        *[("POST", f"/jobs/{job_id}/{verb}", None) for verb in ("hold", "release", "requeue", "suspend", "resume")],
    ]
    for method, path, body in attempts:
        status, answer = other.call(method, path, body)
        assert status == 403, (method, path, status, answer)
    assert running_system.query(job_id)["state"] == "RUNNING"
    assert owner.call("POST", f"/jobs/cancel/{job_id}")[0] == 200
    running_system.wait_state(job_id, "CANCELLED")


def test_a_user_cannot_administer(running_system: RunningSystem) -> None:
    user = as_user(running_system, "alice")
    attempts: list[tuple[str, str, Any]] = [
        ("PATCH", "/nodes/node1", {"state": "DRAIN", "reason": "恶作剧"}),
        ("POST", "/partitions", {"name": "mine"}),
        ("PATCH", "/partitions/main", {"state": "DOWN"}),
        ("DELETE", "/partitions/main", None),
        ("POST", "/tokens", {"user_name": "root"}),
        ("POST", "/tokens", {"admin": True}),
    ]
    for method, path, body in attempts:
        status, answer = user.call(method, path, body)
        assert status == 403, (method, path, status, answer)
    assert user.call("GET", "/nodes/node1")[1]["state"].startswith(("IDLE", "MIXED", "ALLOCATED"))


def test_secrets_stay_in_files_only_their_owner_can_read(running_system: RunningSystem) -> None:
    """数据目录 0700，密钥与令牌 0600；命令行与日志里没有口令和令牌。"""
    data = running_system.data_dir
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("jwt.key", "client.json", "environment", "authorization"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name
    environment = (data / "environment").read_text()
    password = environment.split("SCNS_REDIS_URL=")[1].split("@")[0].rpartition(":")[2]
    assert len(password) >= 16
    key = (data / "jwt.key").read_text().strip()
    running_system.call("GET", "/jobs")
    secrets = [text.encode() for text in (password, key, running_system.token)]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            assert not any(secret in line for secret in secrets), entry
    # 最后一个是 scns up 自己的输出（测试把它收在那里），也没有。
    printed = data.with_name(f"{data.name}.log")
    assert b"SCNS-Conductor" in printed.read_bytes()
    for log in [*data.glob("logs/*.log"), *data.glob("spool/*/*.log"), printed]:
        content = log.read_bytes()
        assert not any(secret in content for secret in secrets), log


@pytest.mark.parametrize("name", ["../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "stdout/../../../jwt.key"])
def test_log_paths_cannot_climb_out(running_system: RunningSystem, name: str) -> None:
    job_id = running_system.submit("true\n")
    running_system.wait_state(job_id)
    status, answer = running_system.call("GET", f"/jobs/{job_id}/logs/{name}")
    assert status in (404, 422), (status, answer)


def test_listening_beyond_loopback_needs_a_key_of_ones_own(tmp_path: Path) -> None:
    """缺省的密钥只给本机用：要让别的机器连，先给出自己的密钥，否则不启动。"""
    done = subprocess.run(
        [sys.executable, "-m", "scns_conductor.local", "up", "--data-dir", str(tmp_path / "d"), "--host", "0.0.0.0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "SCNS_JWT_KEY_FILE" in done.stderr
