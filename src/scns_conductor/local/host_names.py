"""一台机器上的几个节点（scns up --nodes N）：让 node1 这样的名字在作业里解析得到（JAX、torch 靠它会合）。

不动机器的 /etc/hosts：代理（连同它的作业）在自己的挂载空间里，那里的 /etc/hosts 多一行。要 root；
不是 root、没有 unshare、容器不许的，名字照旧解析不了。
"""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

SYSTEM_HOSTS = Path("/etc/hosts")
OWN_MOUNTS = ("unshare", "--mount", "--propagation", "slave")
_BIND = 'mount --bind "$0" /etc/hosts && exec "$@"'
TRY_S = 10.0


def unresolved(names: Sequence[str]) -> list[str]:
    """本机解析不了的名字。"""
    found = []
    for name in names:
        try:
            socket.getaddrinfo(name, None, socket.AF_INET)
        except OSError:
            found.append(name)
    return found


def names_prefix(names: Sequence[str], folder: Path) -> list[str]:
    """放在代理的命令之前的词：之后 names 都解析到本机；做不到、不必做的是空的。folder 里写下那份 hosts。"""
    if len(names) < 2 or os.geteuid() != 0:
        return []
    hosts = folder / "hosts"
    try:
        known = SYSTEM_HOSTS.read_text(encoding="utf-8", errors="replace")
        hosts.write_text(f"{known.rstrip()}\n127.0.0.1 {' '.join(names)}\n", encoding="utf-8")
        hosts.chmod(0o644)
        prefix = [*OWN_MOUNTS, "sh", "-c", _BIND, str(hosts)]
        subprocess.run([*prefix, "true"], check=True, capture_output=True, timeout=TRY_S)
    except (OSError, subprocess.SubprocessError):
        return []
    return prefix
