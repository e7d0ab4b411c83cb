"""列表的切分：逗号分开，方括号里的不分；主机列表的展开。"""

from scns_conductor.slurm.session import Fatal


def split_list(text: str) -> list[str]:
    """12,13_[1,3] -> 12 与 13_[1,3]；空的丢掉。"""
    words, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth <= 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


def named_hosts(text: str) -> list[str]:
    """展开主机列表；写错了（或展开后太多）是 Fatal。"""
    from scns_conductor.core.hostlist import expand

    try:
        return expand(text)
    except ValueError:
        raise Fatal(f"Invalid hostlist: {text}", prefix=None) from None
