"""部署用的文件：服务齐全、有健康检查与命名卷、没有缺省口令；镜像的步骤所用的文件都在。

compose 文件另用 compose-spec 的解析器核对过，Dockerfile 的各步在没有引擎的机器上试过，见 docs/deployment.md。
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from scns_conductor.local.setup.machine import unit_text

ROOT = Path(__file__).parents[2]


def compose() -> dict[str, Any]:
    found = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(found, dict)
    return found


def test_the_services_the_user_named_are_there_with_health_checks_and_named_volumes() -> None:
    found = compose()
    assert {"postgres", "redis", "api", "worker"} <= set(found["services"])
    for name in ("postgres", "redis", "api", "worker"):
        service = found["services"][name]
        assert service["healthcheck"]["test"], name
        volumes = [volume.split(":")[0] for volume in service["volumes"]]
        assert volumes, name
        assert set(volumes) <= set(found["volumes"]), name


def test_no_secret_has_a_default_and_each_must_be_given() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    uses = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    secrets = {name for name, _ in uses if "PASSWORD" in name}
    assert secrets == {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert all(rest.startswith(":?") == (name in secrets) for name, rest in uses)
    given = (ROOT / ".env.example").read_text()
    assert re.findall(r"^(\w+)=(.*)$", given, re.M) == [("POSTGRES_PASSWORD", ""), ("REDIS_PASSWORD", "")]


def test_only_the_api_and_the_dashboard_are_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:${SCNS_PORT:-6820}:6820"], "web": ["127.0.0.1:${SCNS_WEB_PORT:-6821}:6821"]}


def test_the_image_has_two_stages_does_not_end_as_root_and_copies_what_exists() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert [line for line in lines if line.startswith("USER ")][-1] != "USER root"
    sources = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source.removeprefix('./')}" in ignored, source


def test_every_shepherds_log_is_rotated(tmp_path: Path) -> None:
    """升级之后另起的牧守进程的日志在 shepherd.N 里；作业步的临时日志不动。"""
    spool = tmp_path / "spool"
    logs = [spool / "shepherd.log", spool / "shepherd.1" / "shepherd.log", spool / "shepherd.12" / "shepherd.log"]
    for log in logs:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("说过的话\n")
    step = spool / "step_n1_1.0.0.log"
    step.write_text("作业步的\n")
    wanted = tmp_path / "wanted"
    wanted.write_text(unit_text("logrotate", Path("scns")).replace("/var/spool/scns-conductor", str(spool)))
    wanted.chmod(0o644)
    subprocess.run(["logrotate", "--force", "--state", tmp_path / "state", wanted], check=True, timeout=60)
    for log in logs:
        assert (log.read_text(), log.with_name("shepherd.log.1").read_text()) == ("", "说过的话\n")
    assert step.read_text() == "作业步的\n"
