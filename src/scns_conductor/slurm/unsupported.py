"""还没有的命令：说清楚，以 1 退出；不存在的命令比报错的命令更害人。"""

import sys


def refuse(name: str) -> None:
    """打印一行并退出。"""
    print(f"{name}: error: {name} is not supported by this system yet", file=sys.stderr)
    raise SystemExit(1)


def main(_words: list[str]) -> int:
    """不会走到：entry 先调用 refuse。"""
    return 1
