"""docs/deployment.md 的“容器”一节，照着做：造镜像、起来、提交、停下、升级、带着卷再起来；再叠上三台机器的那个文件。"""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from containers.compose import Compose
from production.containers import ROOT
from production.page import commands, section
from running_system import free_port, wait_until

INTRODUCTION = "一台机器上"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """一份干净的目录，像解开的发布包。"""
    target = tmp_path_factory.mktemp("release") / "scns"
    target.mkdir()
    for name in ("docker-compose.yml", ".env.example", "Dockerfile"):
        shutil.copy(ROOT / name, target / name)
    shutil.copytree(ROOT / "deploy", target / "deploy")
    return target


class Site:
    """起来了的一套，从宿主机的端口用它。"""

    def __init__(self, compose: Compose, port: int) -> None:
        self.compose, self.port = compose, port

    def token(self, user: str) -> str:
        line = next(line for line in commands(section("容器：docker compose"), INTRODUCTION) if " token " in line)
        return self.compose.shell(line.replace("alice", user)).strip().splitlines()[-1]

    def call(self, method: str, path: str, token: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def run(self, script: str, token: str, **job: Any) -> dict[str, Any]:
        """提交，等它结束，返回 query 的回答。"""
        body = {"job": {"current_working_directory": "/tmp", **job}, "script": script}
        job_id = self.call("POST", "/jobs/submit", token, body)["job_id"]

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = self.call("GET", f"/jobs/query/{job_id}", token)
            return found if found["state"] not in ("PENDING", "RUNNING") else None

        answer = wait_until(ended, 120, f"作业 {job_id} 结束")
        assert isinstance(answer, dict)
        return answer


@pytest.fixture(scope="module")
def site(directory: Path) -> Iterator[Site]:
    port = free_port()
    compose = Compose(directory, "scnspage", port)
    compose.build()
    try:
        for line in commands(section("容器：docker compose"), INTRODUCTION):
            compose.shell(line)
            if ".env" in line:
                # 页上说“填两个口令”。
                env = directory / ".env"
                env.write_text(env.read_text().replace("PASSWORD=\n", "PASSWORD=pass-word-1\n"))
        yield Site(compose, port)
    finally:
        compose.down()


def test_a_job_submitted_through_the_published_port_runs(site: Site) -> None:
    answer = site.run("echo 在容器里; exit 3", site.token("alice"))
    assert (answer["state"], answer["detail"]["exit_code"]) == ("FAILED", "3:0")
    assert answer["job_log"]["stdout"] == "在容器里\n"


def test_a_browser_signs_in_and_submits_through_the_published_web_port(site: Site) -> None:
    """真的浏览器，从宿主机的端口：粘贴令牌，交一个作业，看到它的输出。"""
    base = f"http://127.0.0.1:{site.compose.web_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(locale="zh-CN").new_page()
        page.set_default_timeout(60_000)
        page.goto(base + "/submit")
        page.get_by_label("访问令牌").fill(site.token("alice"))
        page.get_by_role("button", name="登录").click()
        script = page.get_by_label("脚本", exact=True)
        script.fill("#!/bin/bash\n#SBATCH --job-name=from-browser\n#SBATCH --chdir=/tmp\necho 浏览器里来的\n")
        expect(page.locator(".plan-answer.good")).to_be_visible(timeout=60_000)
        page.get_by_role("button", name="提交作业").click()
        expect(page.locator(".terminal")).to_contain_text("浏览器里来的", timeout=60_000)
        expect(page.locator(".page-head .state-COMPLETED")).to_be_visible(timeout=60_000)
        job_id = page.url.rpartition("/")[2]
        browser.close()
    found = site.call("GET", f"/jobs/{job_id}", site.token("alice"))
    assert (found["name"], found["user_name"], found["data_source"]) == ("from-browser", "alice", "WEB")


def test_passwords_are_needed(directory: Path) -> None:
    compose = Compose(directory, "scnsbare", free_port())
    empty = directory.parent / "empty"
    shutil.copytree(directory, empty, dirs_exist_ok=True)
    (empty / ".env").unlink(missing_ok=True)
    compose.directory = empty
    with pytest.raises(AssertionError, match="POSTGRES_PASSWORD"):
        compose.compose("up", "-d", "--no-deps", "postgres")


def test_stop_upgrade_and_start_again_keeps_everything(site: Site) -> None:
    token = site.token("alice")
    before = site.run("echo 第一次", token)
    # 停下（不删卷）；升级是新的镜像加 up -d：migrate 再跑一遍，令牌的密钥、作业都在卷里。
    site.compose.compose("down", "-t", "20")
    site.compose.up()
    kept = site.call("GET", f"/jobs/query/{before['job_id']}", token)
    assert kept["state"] == "COMPLETED"
    after = site.run("echo 第二次", token)
    assert int(after["job_id"]) > int(before["job_id"])
    assert after["job_log"]["stdout"] == "第二次\n"


def test_three_worker_containers_are_one_cluster_of_several_users(directory: Path) -> None:
    port = free_port()
    files = ("docker-compose.yml", "deploy/compose.cluster.yml")
    compose = Compose(directory, "scnsthree", port, files)
    (directory / ".env").write_text("POSTGRES_PASSWORD=pass-word-1\nREDIS_PASSWORD=pass-word-1\n")
    try:
        compose.up()
        site = Site(compose, port)
        token = site.token("alice")
        nodes = wait_until(
            lambda: (found := site.call("GET", "/nodes", token)["nodes"]) and len(found) == 3 and found,
            120, "三个节点都登记",
        )  # fmt: skip
        assert {node["name"] for node in nodes} == {"worker1", "worker2", "worker3"}
        answer = site.run("hostname; id -un; id -u", token, nodes="3", exclusive=True)
        assert answer["state"] == "COMPLETED", answer
        assert answer["detail"]["allocated_nodes"] == 3
        assert answer["job_log"]["stdout"].splitlines()[1:] == ["alice", "2001"]
        bob = site.run("id -un", site.token("bob"), required_nodes="worker3")
        assert (bob["job_log"]["stdout"], bob["detail"]["node_list"]) == ("bob\n", "worker3")
    finally:
        compose.down()
