"""subreaper（prctl(2)）：孤儿过继到本进程，逃不出它的子树。"""

from scns_conductor.worker.host.user_files import libc

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """让后代的孤儿过继到本进程；内核不支持时返回 False。"""
    return bool(libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
