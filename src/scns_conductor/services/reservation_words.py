"""预留的标志：认得哪些，各写成一种样子。"""

import contextlib
from collections.abc import Collection

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.recurrence import RECURRING
from scns_conductor.core.reservation_flags import FLOAT, NO_HOLD, PURGE, STATIC, USER_DELETE, purge_flag

# 写 nodes 时系统加上的，不能自己写，写了不算。
IMPLIED_FLAGS = ("SPEC_NODES", "ALL_NODES")
FLAGS = (
    *("MAINT", "IGNORE_JOBS", "OVERLAP", *RECURRING, "PART_NODES", "ANY_NODES", "LICENSE_ONLY"),
    *("FLEX", "MAGNETIC", "REPLACE", "REPLACE_DOWN", STATIC, PURGE, FLOAT, NO_HOLD, USER_DELETE),
)
_ONE_NAME = {"LICENSE_ONLY": "ANY_NODES"}


def plain_flags(words: Collection[str]) -> list[str]:
    """自己写得的标志，各一种写法；PURGE_COMP 的时长写错了的照旧，由 known_flags 说。"""
    return list(dict.fromkeys(_one_form(word) for word in words if word not in IMPLIED_FLAGS))


def _one_form(word: str) -> str:
    if word.partition("=")[0] == PURGE:
        with contextlib.suppress(ValueError):
            return purge_flag(word)
    return _ONE_NAME.get(word, word)


def known_flags(words: Collection[str] | None) -> list[str]:
    """认得的标志，不重复；LICENSE_ONLY 就是 ANY_NODES，PURGE_COMP 的时长写定。"""
    given = dict.fromkeys(word for word in words or () if word not in IMPLIED_FLAGS)
    unknown = next((word for word in given if word.partition("=")[0] not in FLAGS), None)
    if unknown is not None:
        raise InvalidRequest("flags", f"不支持 {unknown}；可用 {'、'.join(FLAGS)}", code="flag_unknown")
    try:
        for word in given:
            if word.partition("=")[0] == PURGE:
                purge_flag(word)
    except ValueError as error:
        raise InvalidRequest("flags", str(error), code="flag_unknown") from error
    return plain_flags(given)
