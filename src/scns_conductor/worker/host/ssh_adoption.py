"""ssh 登录归进作业（pam_slurm_adopt 的做法）：pam_exec 在登录时以 root 运行它，参数在 PAM_USER、PAM_TYPE 里。

那个用户在本节点上有作业，就把 sshd 的这个进程放进他最近一个作业的 cgroup：登录里的一切都算作业的，作业结束它也结束。
没有作业的不许登录（root 与 --allow-without-job 除外）。只看 cgroup：作业的目录里总有那个用户的进程，所以不问任何服务。
只用标准库。
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys

from scns_conductor.worker.host.cgroup import mounts, read_pids, write_text
from scns_conductor.worker.host.process_table import read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSED = 1


def trees() -> list[str]:
    """各控制器里系统的目录：挂载点/scns。"""
    return [f"{point}/scns" for _, point, _ in mounts() if os.path.isdir(f"{point}/scns")]


def jobs_of(uid: int, roots: list[str]) -> list[str]:
    """这个用户在本机的作业，（节点/作业的目录），先启动的在前；只看有他的进程的。"""
    found: dict[str, float] = {}
    for root in roots:
        for node in _folders(root):
            for job in _folders(f"{root}/{node}"):
                pids = list(_everyone(f"{root}/{node}/{job}")) if job.startswith("job_") else []
                if any(_owner(pid) == uid for pid in pids):
                    found.setdefault(f"{node}/{job}", _started(pids))
    return sorted(found, key=lambda name: found[name])


def adopt(pid: int, job: str, roots: list[str]) -> None:
    """把进程放进作业在各控制器里的目录；一个也放不进去抛 OSError。"""
    entered, failure = False, OSError(0, "没有它的目录")
    for root in roots:
        path = f"{root}/{job}/cgroup.procs"
        if os.path.exists(path):
            try:
                write_text(path, str(pid))
                entered = True
            except OSError as error:
                failure = error
    if not entered:
        raise failure


def _folders(path: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from (entry.name for entry in os.scandir(path) if entry.is_dir())


def _everyone(path: str) -> Iterator[int]:
    yield from read_pids(f"{path}/cgroup.procs")
    for name in _folders(path):
        yield from _everyone(f"{path}/{name}")


def _owner(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _started(pids: list[int]) -> float:
    """最早的一个进程何时开始（开机秒）。目录的时刻不算：它也许是从前的作业留下的。"""
    return min((stat.start_s for stat in map(read_stat, pids) if stat is not None), default=0.0)


def main(words: list[str] | None = None) -> int:
    """退出码 0 是许登录；说明写在标准输出上，pam_exec 的 stdout 选项把它给登录的人看。"""
    options = sys.argv[1:] if words is None else words
    if os.environ.get("PAM_TYPE") not in ("account", "open_session"):
        return 0
    name = os.environ.get("PAM_USER", "")
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        return REFUSED
    if uid == 0:
        return 0
    roots = trees()
    jobs = jobs_of(uid, roots)
    if not jobs:
        if "--allow-without-job" in options:
            return 0
        print(f"Access denied: user {name} has no running job on this node")
        return REFUSED
    try:
        adopt(os.getppid(), jobs[-1], roots)
    except OSError as error:
        print(f"Access denied: cannot enter job {jobs[-1].rpartition('/')[2]}: {error.strerror}")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
