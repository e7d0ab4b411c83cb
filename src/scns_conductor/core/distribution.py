"""任务的分布方式（sbatch(1) 的 --distribution）：block:cyclic:fcyclic,Pack、plane=4、arbitrary。"""

import re

_NODES = r"(?:\*|block|cyclic|arbitrary|plane(?:=\d{1,6})?)"
_SOCKETS = r"(?:\*|block|cyclic|fcyclic)"
_FORM = re.compile(rf"^(?:{_NODES}(?::{_SOCKETS}){{0,2}}|(?:no)?pack)(?:,(?:no)?pack)*$", re.IGNORECASE)


def check_distribution(text: str) -> None:
    """写法有误抛 ValueError（中文原因）。"""
    if not _FORM.match(text):
        raise ValueError(f"无法识别的分布方式 {text[:64]!r}；例如 block、cyclic:block、plane=4")


def socket_order(text: str | None) -> str | None:
    """第二段：节点里任务怎样摆到各插槽上，block、cyclic、fcyclic；没有写、写 * 的是 None。"""
    parts = (text or "").lower().partition(",")[0].split(":")
    return parts[1] if len(parts) > 1 and parts[1] != "*" else None


def task_order(text: str | None, plane_size: str | None) -> tuple[int, bool]:
    """作业步里任务怎样摆到节点上：(0 成块、1 轮流、N 每轮每节点 N 个；成块时是否放满一个再放下一个)。

    写法有误、plane 没有大小抛 ValueError。arbitrary 在这里算成块：节点由列表定。
    """
    if not text:
        return 0, False
    check_distribution(text)
    first = text.lower().partition(",")[0].partition(":")[0]
    kind, _, size = first.partition("=")
    pack = "pack" in text.lower().split(",")
    if kind == "plane":
        size = size or plane_size or ""
        if not size.isdigit() or int(size) < 1:
            raise ValueError("plane 要写大小，如 plane=4，或设 SLURM_DIST_PLANESIZE")
        return int(size), pack
    return int(kind == "cyclic"), pack
