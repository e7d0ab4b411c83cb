"""Key=Value 的键：不分大小写，可以只写前几个字母（scontrol、sacctmgr 的 xstrncasecmp）。"""

from collections.abc import Iterable


def full_key(word: str, known: Iterable[str], *, least: int = 1) -> str | None:
    """known（小写，先列的优先）里以 word 起头的那个；正好相同的最优先，短于 least 个字母的不算，没有是 None。"""
    key = word.lower()
    names = list(known)
    if key in names:
        return key
    return next((name for name in names if len(key) >= least and name.startswith(key)), None)
