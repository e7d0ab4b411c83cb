"""真的 Debian：QEMU 里从内核起，systemd 是 1 号进程，cgroup v2。没有硬件加速时慢十几倍，只看做得对不对。

磁盘造一次（.machines/ 里），每台机器是它的一层写时复制；用串口上的小服务执行命令；几台之间是一条可以拔掉的网线。
"""

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from machines.machine import Machine
from production.containers import CACHE, debian_package

PACKAGES = (
    "linux-image-cloud-amd64,systemd,systemd-sysv,dbus,udev,python3,python3-venv,procps,iproute2,postgresql,"
    "redis-server,util-linux,logrotate,ca-certificates,adduser"
)
HERE = Path(__file__).parent
DISK_SIZE = "6G"
# 靠仿真、机器又忙的时候也够。
BOOT_WAIT_S = 1200.0
CONTROL_UNIT = """[Unit]
Description=测试的命令
After=multi-user.target
[Service]
ExecStart=/usr/bin/python3 /usr/local/sbin/control.py
Restart=always
StandardOutput=null
# 命令起的进程不随它停：关机时它最后走。
KillMode=process
[Install]
WantedBy=multi-user.target
"""


def base_disk() -> Path:
    """像刚装好的 Debian 12：数据库与 Redis 的软件包装了，别的没有；/root 里有造好的 scns 软件包。"""
    disk, archive, root = CACHE / "vm.img", CACHE / "vm-root.tar", CACHE / "vm-root"
    package = debian_package()
    CACHE.mkdir(exist_ok=True)
    made_from = [path for path in (package, archive, HERE / "control.py", Path(__file__)) if path.exists()]
    if archive.exists() and disk.exists() and all(p.stat().st_mtime < disk.stat().st_mtime for p in made_from):
        return disk
    if not archive.exists():
        fresh = archive.with_suffix(".part.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=apt", f"--include={PACKAGES}", "bookworm", str(fresh)],
            check=True, timeout=1800,
        )  # fmt: skip
        fresh.rename(archive)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", root, "--exclude=./dev/*"], check=True, timeout=600)
    shutil.copy(package, root / "root" / package.name)
    shutil.copy(HERE / "control.py", root / "usr/local/sbin/control.py")
    (root / "etc/systemd/system/control.service").write_text(CONTROL_UNIT)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "control.service").symlink_to("/etc/systemd/system/control.service")
    for unit in ("serial-getty@ttyS0.service", "systemd-networkd-wait-online.service", "apt-daily.timer",
                 "apt-daily-upgrade.timer", "man-db.timer", "e2scrub_all.timer", "fstrim.timer"):  # fmt: skip
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (root / "etc/hostname").write_text("fresh\n")
    for part in ("vmlinuz", "initrd.img"):
        shutil.copy(max((root / "boot").glob(f"{part}-*")), CACHE / f"vm-{part}")
    fresh = disk.with_suffix(".part")
    fresh.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, fresh, DISK_SIZE], check=True, timeout=600)
    fresh.rename(disk)
    shutil.rmtree(root)
    return disk


@cache
def accelerator() -> tuple[str, ...]:
    """KVM；没有就是仿真，慢十几倍。

    光有 /dev/kvm 不够：它后面可以是 PVM（kvm_pvm），只认改过的内核，Debian 的内核一进保护模式就停住。
    """
    with contextlib.suppress(OSError):
        if re.search(r"^flags\s*:.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            os.close(os.open("/dev/kvm", os.O_RDWR))
            return ("-accel", "kvm", "-cpu", "host")
    warnings.warn("这台机器没有硬件虚拟化（/dev/kvm 与 vmx、svm）：虚拟机靠仿真，慢十几倍", stacklevel=2)
    return ("-accel", "tcg,thread=multi", "-cpu", "max")


class VirtualMachine(Machine):
    """一台开着的虚拟机。"""

    pace = 12.0

    def __init__(self, name: str, folder: Path, disk: Path, network: list[str]) -> None:
        super().__init__(name)
        self._folder = folder
        self._numbers = itertools.count(1)
        overlay = folder / f"{name}.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay], check=True, timeout=60
        )
        self.console = folder / f"{name}.console"
        self._process = subprocess.Popen(
            [
                "qemu-system-x86_64", *accelerator(), "-m", "3072", "-smp", "2",
                "-display", "none", "-kernel", str(CACHE / "vm-vmlinuz"), "-initrd", str(CACHE / "vm-initrd.img"),
                "-append", "root=/dev/vda rw console=ttyS0 quiet panic=5 systemd.show_status=0 mitigations=off",
                "-drive", f"file={overlay},if=virtio,format=qcow2,cache=unsafe",
                "-serial", f"file:{self.console}",
                "-device", "virtio-serial",
                "-chardev", f"socket,id=control,path={folder}/{name}.control,server=on,wait=off",
                "-device", "virtserialport,chardev=control,name=scns.control",
                "-monitor", f"unix:{folder}/{name}.monitor,server=on,wait=off",
                *network,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(folder / f"{name}.qemu").open("wb"),
        )  # fmt: skip
        self._port: socket.socket | None = None
        self._pending = b""
        self.wait_booted()
        self.run(
            f"hostnamectl set-hostname {name}; sed -i 's/fresh/{name}/' /etc/hosts; echo 127.0.1.1 {name} >>/etc/hosts"
        )

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 60
        while True:
            port = socket.socket(socket.AF_UNIX)
            try:
                port.connect(str(self._folder / f"{self.name}.control"))
            except OSError:
                port.close()
                assert self._process.poll() is None, (self._folder / f"{self.name}.qemu").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return port

    def _next(self, wait_s: float) -> dict[str, object]:
        """虚拟机说的下一行。"""
        if self._port is None:
            self._port = self._connect()
        self._port.settimeout(wait_s)
        while b"\n" not in self._pending:
            try:
                found = self._port.recv(65536)
            except TimeoutError:
                raise AssertionError(f"{self.name} {wait_s:g} 秒没有说话：{self.console.read_text()[-3000:]}") from None
            assert found, f"{self.name} 关了"
            self._pending += found
        line, self._pending = self._pending.split(b"\n", 1)
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def wait_booted(self) -> None:
        """等里面的小服务说它起来了。"""
        deadline = time.monotonic() + BOOT_WAIT_S
        while not self._next(max(1.0, deadline - time.monotonic())).get("ready"):
            pass

    def execute(self, command: str, wait_s: float) -> tuple[int, str]:
        """以 root 执行一段 shell。"""
        number = next(self._numbers)
        assert self._port is not None
        request = {"id": number, "command": command, "wait_s": wait_s}
        self._port.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._next(wait_s + 60)
            if answer.get("id") == number:
                return int(str(answer["code"])), base64.b64decode(str(answer["output"])).decode(errors="replace")

    def reboot(self) -> None:
        """像人那样重启，等它回来。"""
        self.run("systemd-run --on-active=1 systemctl reboot")
        self.wait_booted()

    def cut_power(self) -> None:
        """按复位键，等它起来。"""
        self._monitor("system_reset")
        self.wait_booted()

    def cable(self, *, plugged: bool) -> None:
        """插上或拔掉网线。"""
        self._monitor(f"set_link net0 {'on' if plugged else 'off'}")

    def _monitor(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._folder / f"{self.name}.monitor"))
            monitor.settimeout(30)
            monitor.recv(4096)
            monitor.sendall(f"{command}\n".encode())
            time.sleep(0.5)
            monitor.recv(4096)

    def stop(self) -> None:
        """拔掉电源。"""
        self._process.kill()
        self._process.wait(30)


def _network(index: int, port: int) -> list[str]:
    side = "listen" if index == 0 else "connect"
    return [
        "-netdev", f"socket,id=net0,{side}=127.0.0.1:{port}",
        "-device", f"virtio-net-pci,netdev=net0,id=card0,mac=52:54:00:00:00:{index + 10:02x}",
    ]  # fmt: skip


@contextlib.contextmanager
def virtual_machines(names: list[str], folder: Path) -> Iterator[dict[str, Machine]]:
    """一台或两台（之间一条网线，10.9.0.0/24，用名字找得到）。"""
    assert len(names) <= 2
    disk = base_disk()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found: dict[str, Machine] = {}
    try:
        for index, name in enumerate(names):
            network = _network(index, port) if len(names) > 1 else ["-nic", "none"]
            found[name] = VirtualMachine(name, folder, disk, network)
        if len(names) > 1:
            for index, name in enumerate(names):
                hosts = "".join(f"10.9.0.{10 + i} {each}\\n" for i, each in enumerate(names))
                found[name].run(
                    "card=$(ls /sys/class/net | grep -v lo | head -1); ip link set $card up; "
                    f"ip address add 10.9.0.{10 + index}/24 dev $card; "
                    f"sed -i '/{name}/d' /etc/hosts; printf '{hosts}' >>/etc/hosts"
                )
        yield found
    finally:
        for machine in found.values():
            machine.stop()
