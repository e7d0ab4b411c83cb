"""容器当作集群的机器：各有主机名、网络、用户；镜像由 Debian 的软件包造，不用任何镜像仓库。

引擎是 Debian 的 podman（runc、cgroupfs）；镜像造一次，放在 .machines/ 里，之后直接用。
"""

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".machines"
PODMAN = ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs")
# 不写明上限，runc 要提高它，容器里不许；start-stop-daemon 要看别人的 /proc/PID/exe。
LIMITS = ("--cap-add", "SYS_PTRACE", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=10000:10000")
PACKAGES = (
    "python3,python3-venv,procps,iproute2,postgresql,redis-server,util-linux,logrotate,openssh-client,openssh-server,"
    "ca-certificates,mount,systemd,systemd-sysv,dbus"
)
IMAGE = "localhost/scns-machine:bookworm-systemd"
COMMAND_WAIT_S = 300


def podman(*words: str, wait_s: float = COMMAND_WAIT_S, stdin: str | None = None) -> str:
    """运行 podman，返回标准输出；失败时把它的话都说出来。"""
    done = subprocess.run([*PODMAN, *words], capture_output=True, text=True, timeout=wait_s, check=False, input=stdin)
    assert done.returncode == 0, f"podman {' '.join(words)}：{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def remove_container(name: str) -> None:
    """删到没有了为止：机器忙时一次也许卸不下它的盘，名字就还被占着。"""
    left = [*PODMAN, "ps", "-a", "--external", "-q", "--filter", f"name=^{name}$"]
    deadline = time.monotonic() + COMMAND_WAIT_S
    while True:
        done = subprocess.run(
            [*PODMAN, "rm", "-f", "-t", "1", name], check=False, capture_output=True, text=True, timeout=COMMAND_WAIT_S
        )
        if not subprocess.run(left, check=True, capture_output=True, text=True, timeout=COMMAND_WAIT_S).stdout.strip():
            return
        assert time.monotonic() < deadline, f"删不掉 {name}：{done.stderr}"
        time.sleep(0.5)


def machine_image() -> str:
    """像刚装好的 Debian 12 加上数据库与 Redis 的软件包。"""
    if subprocess.run([*PODMAN, "image", "exists", IMAGE], check=False).returncode != 0:
        CACHE.mkdir(exist_ok=True)
        archive = CACHE / "machine.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=apt", f"--include={PACKAGES}", "bookworm", str(archive)],
            check=True,
            timeout=1200,
        )
        podman("import", str(archive), IMAGE)
        archive.unlink()
    return IMAGE


def debian_package() -> Path:
    """make deb 造出的软件包；源码没有比它新的就用现成的。"""
    sources = [ROOT / "pyproject.toml", ROOT / "constraints.txt", ROOT / "docs/deployment.md"]
    sources += [path for folder in ("src", "packaging") for path in (ROOT / folder).rglob("*") if path.is_file()]
    newest = max(path.stat().st_mtime for path in sources if path.suffix != ".pyc")
    made = list((CACHE / "deb").glob("*.deb"))
    if not made or max(path.stat().st_mtime for path in made) < newest:
        subprocess.run(
            [ROOT / "packaging/build_deb.sh", CACHE / "deb", sys.executable],
            check=True,
            timeout=1800,
            capture_output=True,
        )
    return max((CACHE / "deb").glob("*.deb"), key=lambda path: path.stat().st_mtime)


@dataclass(frozen=True, slots=True)
class Machine:
    """一台机器。"""

    name: str
    container: str

    def run(self, command: str, *, wait_s: float = COMMAND_WAIT_S) -> str:
        """在它上面以 root 执行一段 shell。"""
        return podman("exec", self.container, "bash", "-c", command, wait_s=wait_s)

    def start(self, command: str, log: str) -> None:
        """在背后运行，输出写进 log。"""
        podman("exec", "-d", self.container, "bash", "-c", f"exec {command} >>{log} 2>&1")

    def read(self, path: str) -> str:
        """读一个文件。"""
        return self.run(f"cat {path}")

    def copy_in(self, source: Path, target: str) -> None:
        """拷进去一个文件。"""
        podman("cp", str(source), f"{self.container}:{target}")


def let_root_in(found: Iterable[Machine]) -> None:
    """真的 sshd：root 凭密钥在这些机器之间走，互相认得。"""
    hosts = list(found)
    first = hosts[0]
    first.run("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    private, public = first.read("/root/.ssh/id_ed25519"), first.read("/root/.ssh/id_ed25519.pub")
    for host in hosts:
        host.run(
            f"umask 077; mkdir -p /root/.ssh /run/sshd; cd /root/.ssh; printf %s '{private}' > id_ed25519; "
            f"printf %s '{public}' > authorized_keys; /usr/sbin/sshd"
        )
    names = " ".join(host.name for host in hosts)
    for host in hosts:
        host.run(f"ssh-keyscan -t ed25519 {names} > /root/.ssh/known_hosts 2>/dev/null")


@contextmanager
def machines(names: Sequence[str], *, subnet: str) -> Iterator[dict[str, Machine]]:
    """在一个网段里的几台机器，互相用名字找得到；用完连网络一起删。"""
    image = machine_image()
    network = f"scns-{names[0]}"
    prefix = subnet.rsplit(".", 1)[0]
    addresses = {name: f"{prefix}.{index}" for index, name in enumerate(names, 10)}
    hosts = [word for name, address in addresses.items() for word in ("--add-host", f"{name}:{address}")]
    subprocess.run([*PODMAN, "network", "rm", "-f", network], check=False, capture_output=True)
    podman("network", "create", "--subnet", subnet, "--disable-dns", network)
    found: dict[str, Machine] = {}
    try:
        for name in names:
            container = f"scns-{name}"
            remove_container(container)
            words = ("--name", container, "--hostname", name, "--network", network, "--ip", addresses[name])
            podman("run", "-d", *words, *hosts, *LIMITS, image, "sleep", "infinity")
            found[name] = Machine(name, container)
        yield found
    finally:
        for machine in found.values():
            remove_container(machine.container)
        subprocess.run([*PODMAN, "network", "rm", "-f", network], check=False, capture_output=True)
