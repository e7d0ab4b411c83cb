"""节点自己的盘还有没有地方：写满了，作业也许照跑，它们的记录、脚本却写不下来，要先停手、说出来。"""

import os
from collections.abc import Iterable
from pathlib import Path

LEAST_FREE_BYTES = 1024**2
LEAST_FREE_INODES = 16


def space_shortage(directories: Iterable[Path]) -> str | None:
    """哪个目录快满了（中文说明）；都够、看不到的返回 None。"""
    for directory in directories:
        try:
            found = os.statvfs(directory)
        except OSError:
            continue
        free = (found.f_bfree if os.geteuid() == 0 else found.f_bavail) * found.f_frsize
        if free < LEAST_FREE_BYTES:
            return f"{directory} 所在的盘满了，只剩 {free // 1024} KiB；腾出地方之后恢复节点（scns nodes --resume）"
        # 有的文件系统不限 inode，报 0。
        if found.f_files and found.f_ffree < LEAST_FREE_INODES:
            return f"{directory} 所在的盘没有 inode 了；删掉一些文件之后恢复节点（scns nodes --resume）"
    return None
