"""任务的分布方式（sbatch(1) 的 --distribution）：block:cyclic:fcyclic,Pack、plane=4、arbitrary。"""

import re

_NODES = r"(?:\*|block|cyclic|arbitrary|plane(?:=\d{1,6})?)"
_SOCKETS = r"(?:\*|block|cyclic|fcyclic)"
_FORM = re.compile(rf"^{_NODES}(?::{_SOCKETS}){{0,2}}(?:,(?:no)?pack)*$", re.IGNORECASE)


def check_distribution(text: str) -> None:
    """写法有误抛 ValueError（中文原因）。"""
    if not _FORM.match(text):
        raise ValueError(f"无法识别的分布方式 {text[:64]!r}；例如 block、cyclic:block、plane=4")
