"""代价的测试数函数调用：与机器快慢无关。"""

import sys
from collections.abc import Callable


def calls(action: Callable[[], object]) -> int:
    """执行 action 时调用了几次函数（C 的也算）。"""
    count = 0

    def count_one(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_one)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count
