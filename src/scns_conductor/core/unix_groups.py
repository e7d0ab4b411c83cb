"""本机上一些组有哪些用户（预留的 Groups）；隔一会儿才再问一遍：目录服务可能很慢。"""

import grp
import pwd
import time
from collections.abc import Collection
from functools import lru_cache

# 隔这么久（秒）再问一遍。
FRESH_S = 60.0


def group_members(names: Collection[str]) -> frozenset[str]:
    """这些组的用户，主组也算。写了组而一个人也没有的，是一个谁也不叫的名字：不是谁都许。"""
    turn = int(time.monotonic() // FRESH_S)
    found = frozenset[str]().union(*(_members(name, turn) for name in names))
    return found if found or not names else frozenset({""})


def unknown_group(names: Collection[str]) -> str | None:
    """本机没有的第一个组；都有是 None。"""
    return next((name for name in names if not _known(name)), None)


def _known(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


@lru_cache(maxsize=256)
def _members(name: str, _turn: int) -> frozenset[str]:
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return frozenset()
    return frozenset([*group.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == group.gr_gid)])
