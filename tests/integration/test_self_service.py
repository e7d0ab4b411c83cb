"""新来的人自己用得起来：离线的接口文档、再 make up 一次、端口被占、令牌不打印。"""

import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_system import RunningSystem
from scns_conductor.language.catalogue import CHINESE

UP = [sys.executable, "-m", "scns_conductor.local"]


def get(url: str) -> tuple[int, str, str]:
    """（状态码，最后的地址，正文）；跟着转。"""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status, answer.url, answer.read().decode()


def test_the_front_page_leads_to_the_documentation(running_system: RunningSystem) -> None:
    status, address, page = get(running_system.url + "/")
    assert (status, address) == (200, running_system.url + "/docs")
    assert "swagger-ui" in page


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_needs_no_other_server(running_system: RunningSystem, path: str) -> None:
    _, _, page = get(running_system.url + path)
    assert "//" not in re.sub(r"<!--.*?-->", "", page, flags=re.S).replace("https://scns", ""), page
    if path == "/redoc":
        # 它的脚本里还有一个别处的商标：浏览器不许去取。
        with urllib.request.urlopen(running_system.url + path, timeout=30) as answer:
            assert answer.headers["content-security-policy"] == "img-src 'self' data:"
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) >= 2
    for asset in assets:
        assert asset.startswith("/")
        status, _, text = get_bytes(running_system.url + asset)
        assert status == 200
        assert text


def get_bytes(url: str) -> tuple[int, str, bytes]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status, answer.url, answer.read()


def test_the_lines_of_the_readme_work_as_they_stand(running_system: RunningSystem) -> None:
    """照抄 README 的 curl 各行：只换数据目录与作业号。"""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = next(part for part in re.findall(r"```console\n(.*?)```", readme, re.S) if "curl" in part)
    lines = re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.M)
    assert len(lines) == 4
    script = "\n".join(lines).replace("D=/var/lib/scns-conductor", f"D={shlex.quote(str(running_system.data_dir))}")
    job_id = running_system.submit("sleep 300\n")
    script = re.sub(r"/(query|cancel)/\d+", rf"/\1/{job_id}", script)
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, cwd=running_system.data_dir
    )
    assert re.match(rf'{{"job_id":"\d+"}}{{"job_id":"{job_id}","state":', done.stdout), done
    assert running_system.wait_state(job_id)["state"] == "CANCELLED"


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """一个要停掉的数据目录。"""
    path = scratch / "self-service"
    yield path
    subprocess.run([*UP, "down", "--data-dir", path], check=False, capture_output=True, timeout=150)


def up(place: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*UP, "up", "--detach", "--data-dir", place, "--nodes", "1", "--cpus", "1", "--memory", "1G"],
        capture_output=True, text=True, check=False, timeout=150, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.faults
def test_up_twice_tells_where_it_is_and_never_prints_the_token(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = up(place, SCNS_API_PORT=str(port))
    assert first.returncode == 0, first
    # 被占的端口不是错误：用下一个空闲的，并且说出来。
    url = re.search(r"(http://127\.0\.0\.1:\d+)/docs", first.stdout)
    assert url is not None, first.stdout
    assert f"端口 {port} 已被占用" in first.stdout
    # 怎样用只说一遍；在后台的，Ctrl-C 停不了它。
    assert first.stdout.count("接口文档") == 1
    assert first.stdout.count("  看板 ") == 1
    assert "Ctrl-C" not in first.stdout
    assert int(url[1].rpartition(":")[2]) > port

    second = up(place)
    assert second.returncode == 0, second
    assert url[0] in second.stdout
    assert "已经在运行" in second.stdout

    token = (place / "authorization").read_text().split()[-1]
    log = place / "logs" / "up.log"
    assert log.stat().st_mode & 0o077 == 0
    assert token not in first.stdout + first.stderr + second.stdout + second.stderr + log.read_text()
    # 打印的 curl 一行照抄就能用，说英文时也是。
    third = up(place, SCNS_LANG="en")
    assert not CHINESE.search(third.stdout), third.stdout
    for number, (told, line_re) in enumerate(
        ((first, r"用 curl +(curl .*?)\n  用 scns"), (third, r"with curl +(curl .*?)\n  with scns")), 1
    ):
        line = re.search(line_re, told.stdout, re.S)
        assert line is not None, told.stdout
        done = subprocess.run(["sh", "-c", line[1]], capture_output=True, text=True, check=False)
        assert done.stdout == f'{{"job_id":"{number}"}}', done
    # 启动时没有别的库的闲话。
    assert "alembic" not in first.stdout + first.stderr + log.read_text()


def test_a_port_that_was_asked_for_is_not_exchanged_for_another(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*UP, "up", "--data-dir", place, "--port", str(port)],
            capture_output=True, text=True, check=False, timeout=150,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
