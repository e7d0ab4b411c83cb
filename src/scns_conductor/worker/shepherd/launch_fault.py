"""启动失败：原因、退出码、是不是节点的错。"""

from __future__ import annotations


class LaunchFault(Exception):
    """启动失败。status 是退出码；on_node 为真表示是节点的错，作业可以到别处重来。"""

    def __init__(self, message: str, *, status: int = 1, on_node: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.on_node = on_node
