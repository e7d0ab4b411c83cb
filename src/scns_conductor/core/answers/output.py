"""节点回答 read_log：运行中的作业的一段输出，或为什么没有；写进数据库，API 取走。"""

from typing import TypedDict


class OutputRead(TypedDict):
    """读到的一段。"""

    data: str
    """base64"""
    total: int
    """文件总长（字节）"""
    offset: int
    """这一段从哪里起（字节）"""
    path: str


class OutputRefused(TypedDict, total=False):
    """没有：code 是 no_output、not_yet、unreadable。"""

    code: str
    error: str
    path: str
