"""分区的 OverSubscribe 与 QOS 的 PreemptMode：怎样写。"""

import re

# 分区：不共用；FORCE:n 几个作业轮流用同样的 CPU，每个 CPU 至多分给 n 个；YES:n 只有 --oversubscribe 的。
OVERSUBSCRIBE = "^(NO|(YES|FORCE):[1-9][0-9]{0,3})$"
# QOS：方式，within（同一个 QOS 里优先级高的也抢占低的），或两样。
QOS_PREEMPT_MODE = "^(requeue|cancel|suspend|off|((requeue|cancel|suspend),)?within)$"
# 没有写几个的（slurm.conf(5)）。
_MOST = 4


def oversubscribe(text: str) -> str:
    """slurm.conf 的写法 -> 列的写法，如 force -> FORCE:4；写错的抛 ValueError。"""
    word = text.strip().upper()
    if word in ("YES", "FORCE"):
        word = f"{word}:{_MOST}"
    if not re.match(OVERSUBSCRIBE, word):
        raise ValueError(f"{text[:64]!r} 不对：应是 NO、YES[:n] 或 FORCE[:n]")
    return word


def shared_by(column: str) -> tuple[int, bool]:
    """列的写法 -> （一个 CPU 至多分给几个作业，只有要了 --oversubscribe 的才与人共用），如 YES:4 -> (4, True)。"""
    word, _, most = column.partition(":")
    return int(most or 1), word == "YES"
