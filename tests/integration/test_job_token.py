"""作业令牌：多用户的作业不带个人的令牌也问得了 API；只在它运行时有效，只是它的用户，换不成长期的。"""

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from restore_yard import Dump
from shepherd_yard import wait_until

import warm_processes
from scns_conductor.core.job_token import job_token
from scns_conductor.core.settings import Settings

USER, OTHER = "nobody", "daemon"
SCRIPT = "echo $SCNS_JOB_TOKEN > token.new; mv token.new token; while [ ! -e go ]; do sleep 0.1; done\n"


class Api:
    """同一个数据库上的 API 进程。"""

    def __init__(self, yard: NodeYard, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        with open(yard.work / "api.log", "ab") as log:
            self.process = warm_processes.start(
                "scns_conductor.api",
                env={**yard.environment("none"), "SCNS_DATA_DIR": str(yard.work / "api"), "SCNS_API_PORT": str(port)},
                stderr=log,
            )

    def call(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                data = answer.read()
                return answer.status, json.loads(data) if data[:1] in b"{[" else data.decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError:
            return 0, None


@pytest.fixture
def yard(settings: Settings, walkable: Path) -> Iterator[NodeYard]:
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    running = NodeYard(settings, walkable)
    running.output.chmod(0o1777)
    yield running
    running.close()


@pytest.fixture
def api(yard: NodeYard) -> Iterator[Api]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = Api(yard, port)
    yard.start_agent(SCNS_SINGLE_USER="false", SCNS_URL=started.url)
    wait_until(lambda: started.call("", "GET", "/health/live")[0] == 200, "API 起来")
    yield started
    started.process.terminate()
    started.process.wait(timeout=30)


def test_a_job_token_is_its_user_while_the_job_runs(yard: NodeYard, api: Api) -> None:
    theirs = yard.submit("echo 机密\n", user_name=OTHER)
    job_id = yard.run(SCRIPT, user_name=USER)
    token = yard.written("token").strip()
    assert api.call(token, "GET", f"/jobs/{job_id}")[1]["user_name"] == USER
    assert api.call(token, "GET", f"/jobs/{job_id}/script")[0] == 200
    assert api.call(token, "GET", f"/jobs/{theirs}/script")[0] == 403
    assert api.call(token, "POST", f"/jobs/cancel/{theirs}")[0] == 403
    assert api.call(token, "PATCH", "/nodes/n1", {"state": "DRAIN", "reason": "x"})[1]["code"] == "admin_required"
    # 换不成比作业活得久的令牌。
    assert api.call(token, "POST", "/tokens", {})[1]["code"] == "job_token_not_enough"
    # 管理级别不算数：被攻陷的作业够不到管理员的事。
    yard.execute("INSERT INTO users (name, admin_level) VALUES (:name, 'Administrator')", name=USER)
    assert api.call(token, "PATCH", "/nodes/n1", {"state": "DRAIN", "reason": "x"})[0] == 403
    # 提交下一个作业：Slurm 的作业链。
    body = {"job": {"current_working_directory": "/tmp"}, "script": "#!/bin/sh\n"}
    status, answer = api.call(token, "POST", "/jobs/submit", body)
    assert status in (200, 201)
    assert yard.job(int(answer["job_id"]))["user_name"] == USER
    (yard.output / "go").touch()
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert api.call(token, "GET", f"/jobs/{job_id}")[1]["code"] == "token_invalid"


def test_a_token_cannot_be_guessed_moved_or_kept_over_a_requeue(yard: NodeYard, api: Api) -> None:
    job_id = yard.run(SCRIPT, user_name=USER)
    token = yard.written("token").strip()
    stored = yard.query("SELECT token_digest FROM resource_allocations WHERE job_id = :job_id", job_id=job_id)[0]
    assert bytes(stored["token_digest"]).hex() not in token, "数据库里只有摘要"
    head, number, attempt, secret = token.split(".")
    flipped = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    forged = [
        f"{head}.{number}.{attempt}.{flipped}",
        f"{head}.{int(number) + 1}.{attempt}.{secret}",
        f"{head}.{number}.1.{secret}",
        job_token(b"x" * 32, job_id, 0, 1),
        f"{head}.{number}.{attempt}.{bytes(stored['token_digest']).hex()}",
        f"{head}.{'9' * 30}.0.{secret}",
    ]
    for wrong in forged:
        status, answer = api.call(wrong, "GET", f"/jobs/{job_id}")
        assert (status, answer["code"]) == (401, "token_invalid"), wrong
    # 重新排队：旧的那次的令牌不再有用，新的一次有自己的。
    assert api.call(token, "POST", f"/jobs/{job_id}/requeue")[0] == 200
    yard.send("requeue", job_ids=[job_id])
    wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "回到队列")
    assert api.call(token, "GET", f"/jobs/{job_id}")[0] == 401
    (yard.output / "token").unlink()
    yard.execute("UPDATE jobs SET begin_time = NULL, eligible_time = now() WHERE job_id = :job_id", job_id=job_id)
    yard.start(job_id)
    fresh = yard.written("token").strip()
    assert fresh != token
    assert api.call(fresh, "GET", f"/jobs/{job_id}")[0] == 200
    assert api.call(token, "GET", f"/jobs/{job_id}")[0] == 401
    (yard.output / "go").touch()
    yard.ended(job_id)


def test_a_single_user_job_gets_none(yard: NodeYard) -> None:
    yard.start_agent("n2")
    job_id = yard.submit("echo [$SCNS_JOB_TOKEN] > single\n")
    yard.start(job_id, ["n2"])
    yard.ended(job_id)
    assert yard.written("single") == "[]\n"


@pytest.mark.faults
def test_a_single_user_api_does_not_read_what_jobs_of_a_shared_node_link_to(yard: NodeYard, api: Api) -> None:
    """API 误设成单用户（它是 root）：多用户节点上的作业把输出换成链接，也读不到别人的文件。"""
    secret = yard.work / "secret"
    secret.write_text("机密的内容")
    secret.chmod(0o600)
    job_id = yard.run(f"ln -sf {secret} slurm-$SLURM_JOB_ID.out; {SCRIPT}", user_name=USER)
    token = yard.written("token").strip()
    status, answer = api.call(token, "GET", f"/jobs/{job_id}/logs/stdout")
    assert "机密" not in str(answer), status


@pytest.mark.faults
def test_a_process_from_before_a_restore_has_no_token(
    yard: NodeYard, api: Api, settings: Settings, tmp_path: Path
) -> None:
    """数据库恢复之后，同号的作业可以是别人的：旧进程手里的令牌不能当它的。"""
    job_id = yard.submit(SCRIPT, user_name=USER)
    dump = Dump(settings, tmp_path / "dump")
    yard.start(job_id)
    old = yard.written("token").strip()
    dump.restore()
    (yard.output / "token").unlink()
    yard.start(job_id)
    fresh = yard.written("token").strip()
    wait_until(lambda: api.call(fresh, "GET", f"/jobs/{job_id}")[0] == 200, "新的令牌有用")
    assert api.call(old, "GET", f"/jobs/{job_id}")[0] == 401
