"""容器当作一台机器：特权的 podman 容器，systemd 是 1 号进程，cgroup 是这台机器有的那一版；几秒就起来。

与真的机器不同的只有内核：开机标识每次“开机”换一个（挂在 /proc 里的那个文件上），会动到宿主机的单元屏蔽掉。
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from machines.machine import Machine
from production.containers import PODMAN, debian_package, machine_image, podman, remove_container

SUBNET = "10.9.0.0/24"
NETWORK = "scns-cable"
BOOT_WAIT_S = 90.0
# 特权容器里的 /proc/sys、时钟、设备都是宿主机的，不许动。
NOT_OURS = (
    "systemd-sysctl systemd-modules-load systemd-binfmt systemd-timesyncd systemd-udevd systemd-random-seed "
    "systemd-hwdb-update systemd-tmpfiles-setup-dev console-getty getty@ proc-sys-fs-binfmt_misc.automount "
    "sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount "
    "dev-hugepages.mount dev-mqueue.mount apt-daily.timer apt-daily-upgrade.timer"
)
BOOT = f"""
for unit in {NOT_OURS}; do
  case $unit in *.*) ;; *) unit=$unit.service ;; esac
  ln -sf /dev/null /etc/systemd/system/$unit
done
# podman 给 systemd 的那一层挂的是宿主机的根；下面那一层才是自己的。
umount /sys/fs/cgroup/systemd/release_agent /sys/fs/cgroup/systemd 2>/dev/null
# 用完就删的机器，装软件包不必每个文件都等盘。
echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/unsafe-io
cat /proc/sys/kernel/random/uuid > /etc/boot-id
mount --bind /etc/boot-id /proc/sys/kernel/random/boot_id
exec /sbin/init
"""


class Container(Machine):
    """一台开着的容器。"""

    def __init__(self, name: str, network: list[str]) -> None:
        super().__init__(name)
        self.container = f"scns-machine-{name}"
        remove_container(self.container)
        limits = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=10000:10000")
        how = ("--privileged", "--systemd=always", "--cgroupns=private", "--hostname", name, *limits, *network)
        podman("run", "-d", "--name", self.container, *how, machine_image(), "/bin/sh", "-c", BOOT)
        self._wait_booted()
        package = debian_package()
        podman("cp", str(package), f"{self.container}:/root/{package.name}")

    def execute(self, command: str, wait_s: float) -> tuple[int, str]:
        """以 root 执行一段 shell。"""
        try:
            done = subprocess.run(
                [*PODMAN, "exec", "-w", "/root", self.container, "bash", "-c", command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", timeout=wait_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            return 124, str(error.stdout)
        return done.returncode, done.stdout

    def reboot(self) -> None:
        """像人那样重启：systemd 停下全部，1 号进程退出，再开机。"""
        self.execute("systemctl reboot", 30)
        podman("wait", self.container)
        podman("start", self.container)
        self._wait_booted()

    def cut_power(self) -> None:
        """全部进程一下子没了，再开机。"""
        podman("kill", "--signal", "KILL", self.container)
        podman("wait", self.container)
        podman("start", self.container)
        self._wait_booted()

    def cable(self, *, plugged: bool) -> None:
        """网桥那一头的口子断开、接上：这边看到的是没有载波。"""
        _, number = self.execute("cat /sys/class/net/eth0/iflink", 30)
        (port,) = (
            path.parent.name
            for path in Path("/sys/class/net").glob("*/ifindex")
            if path.read_text().strip() == number.strip()
        )
        subprocess.run(["ip", "link", "set", port, "up" if plugged else "down"], check=True, timeout=30)

    def stop(self) -> None:
        """连容器一起删。"""
        remove_container(self.container)

    def _wait_booted(self) -> None:
        deadline = time.monotonic() + BOOT_WAIT_S
        while True:
            _, said = self.execute("systemctl is-system-running", 60)
            if said.strip() in ("running", "degraded"):
                return
            assert time.monotonic() < deadline, f"{self.name} 没有起来：{said}\n{podman('logs', self.container)}"
            time.sleep(0.2)


@contextlib.contextmanager
def containers(names: list[str]) -> Iterator[dict[str, Machine]]:
    """一台，或在一个网段里的几台（10.9.0.0/24，用名字找得到）。"""
    addresses = {name: f"10.9.0.{index}" for index, name in enumerate(names, 10)}
    if len(names) > 1:
        _remove_network()
        podman("network", "create", "--subnet", SUBNET, "--disable-dns", NETWORK)
    hosts = [word for name, address in addresses.items() for word in ("--add-host", f"{name}:{address}")]
    found: dict[str, Machine] = {}
    try:
        for name, address in addresses.items():
            network = ["--network", NETWORK, "--ip", address, *hosts] if len(names) > 1 else ["--network", "none"]
            found[name] = Container(name, network)
        yield found
    finally:
        for machine in found.values():
            machine.stop()
        if len(names) > 1:
            _remove_network()


def _remove_network() -> None:
    subprocess.run([*PODMAN, "network", "rm", "-f", NETWORK], check=False, capture_output=True, timeout=60)
