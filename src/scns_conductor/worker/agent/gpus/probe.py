"""运行厂商的工具、看 /sys 与 /dev：各家共用的几步。"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

from scns_conductor.worker.agent.cpu_topology import parse_cpu_list
from scns_conductor.worker.agent.gpus.card import ProbeError

WAIT_S = 20.0
PCI_TREE = Path("/sys/bus/pci/devices")


def run_tool(program: str, *arguments: str) -> str | None:
    """标准输出；没有这个程序是 None。失败、超时抛 ProbeError。"""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False, errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProbeError(f"{program}：{error}") from error
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise ProbeError(f"{program} 退出码 {done.returncode}：{told[-1][:200] if told else ''}")
    return done.stdout


def local_cpus(bus_id: str, tree: Path = PCI_TREE) -> tuple[int, ...]:
    """PCI 地址（'00000000:C1:00.0'、'0000:c1:00.0'）的设备挨着的 CPU；不知道是空的。"""
    domain, _, rest = bus_id.strip().lower().partition(":")
    try:
        return tuple(parse_cpu_list((tree / f"{domain[-4:]}:{rest}" / "local_cpulist").read_text()))
    except OSError:
        return ()


def device_rule(path: str) -> str | None:
    """设备文件的 cgroup 写法；不在、不是设备是 None。"""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISCHR(found.st_mode):
        return None
    return f"c {os.major(found.st_rdev)}:{os.minor(found.st_rdev)} rwm"
