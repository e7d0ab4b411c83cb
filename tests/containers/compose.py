"""用 Debian 的 podman 与 podman-compose 充当 docker compose：真的镜像、真的容器、真的卷。

podman 4 没有 systemd 就不定时跑健康检查，也不会等 service_healthy：这里照 compose 的次序起，自己跑各服务的健康检查。
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from production.containers import CACHE, IMAGE, ROOT, machine_image
from running_system import free_port

APP_IMAGE = "localhost/scns-conductor:0.1.0"
ENGINES_IMAGE = "localhost/scns-test-engines:bookworm"
HERE = Path(__file__).parent
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
WAIT_S = 180
CONFIGURATION = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Compose:
    """一个 compose 项目；files 是叠起来的几个文件。"""

    def __init__(self, directory: Path, project: str, port: int, files: tuple[str, ...] = ()) -> None:
        self.directory, self.project = directory, project
        # 几套同时起着时，看板的端口也各是各的。
        self.web_port = free_port()
        CACHE.mkdir(exist_ok=True)
        settings = CACHE / "containers.conf"
        settings.write_text(CONFIGURATION)
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": str(settings),
            "SCNS_PORT": str(port),
            "SCNS_WEB_PORT": str(self.web_port),
            "BASE_IMAGE": IMAGE,
            "POSTGRES_IMAGE": ENGINES_IMAGE,
            "REDIS_IMAGE": ENGINES_IMAGE,
        }
        self._files = [word for file in files for word in ("-f", file)]

    def build(self) -> None:
        """造出应用与两个引擎的镜像；页上的 up -d 在有镜像仓库的地方会自己造、自己取。"""
        machine_image()
        base = ("--ulimit", "nofile=20000:20000", "--isolation=chroot", "--build-arg", f"BASE={IMAGE}")
        self.podman("build", "-q", *base, "-t", ENGINES_IMAGE, "-f", str(HERE / "engines/Containerfile"),
                    str(HERE / "engines"))  # fmt: skip
        # 测试机出网要它自己的证书。
        trust = ("-v", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--network=host")
        self.podman("build", "-q", *base, *trust, "-t", APP_IMAGE, str(ROOT), wait_s=1200)

    def podman(self, *words: str, wait_s: float = WAIT_S) -> str:
        """podman 的一个命令。"""
        return self._run(["podman", *words], wait_s)

    def compose(self, *words: str, wait_s: float = WAIT_S) -> str:
        """podman-compose 的一个命令。"""
        compose = str(Path(sys.executable).with_name("podman-compose"))
        return self._run([compose, "-p", self.project, *self._files, *words], wait_s)

    def shell(self, line: str) -> str:
        """页上的一行：docker compose 由 podman-compose 做，别的照做。"""
        words = line.split("#")[0].split()
        if words[:2] != ["docker", "compose"]:
            return self._run(["bash", "-ec", line], WAIT_S)
        if words[-2:] == ["up", "-d"]:
            self.up()
            return ""
        if words[2] == "exec":
            return self.compose("exec", "-T", *words[3:])
        return self.compose(*words[2:])

    def up(self) -> None:
        """照 depends_on 的次序：引擎健康了，结构升级完了，再起其余的。"""
        self.compose("up", "-d", "--no-deps", "postgres", "redis")
        for service in ("postgres", "redis"):
            self.wait_healthy(service)
        self.compose("up", "--no-deps", "migrate")
        state = self.podman("inspect", f"{self.project}_migrate_1", "--format", "{{.State.ExitCode}}").strip()
        assert state == "0", self.compose("logs", "migrate")
        services = [name for name in self.compose("config", "--services").split() if name.isalnum()]
        rest = [name for name in services if name not in ("postgres", "redis", "migrate")]
        self.compose("up", "-d", "--no-deps", *rest)
        for service in rest:
            self.wait_healthy(service)

    def wait_healthy(self, service: str) -> None:
        """服务自己写的健康检查通过了；没有写的不等。"""
        name = f"{self.project}_{service}_1"
        if self.podman("inspect", name, "--format", "{{.Config.Healthcheck}}").strip() in ("<nil>", ""):
            return
        deadline = time.monotonic() + WAIT_S
        while subprocess.run(["podman", "healthcheck", "run", name], env=self._environment,
                             capture_output=True, check=False).returncode:  # fmt: skip
            assert time.monotonic() < deadline, f"{service} 不健康：\n{self.compose('logs', service)[-4000:]}"
            time.sleep(0.5)

    def down(self) -> None:
        """连卷一起删。"""
        self.compose("down", "-v", "-t", "5")

    def _run(self, words: list[str], wait_s: float) -> str:
        done = subprocess.run(words, cwd=self.directory, env=self._environment, capture_output=True, text=True,
                              timeout=wait_s, check=False)  # fmt: skip
        assert done.returncode == 0, f"{' '.join(words)}：{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout
