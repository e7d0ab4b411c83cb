"""节点自己的目录（工作目录、脚本目录）所在的盘：还有没有地方，答不答话。写满了，作业也许照跑，它们的记录、脚本却写不下来，
要先停手、说出来。

脚本目录可以在网络文件系统上，工作目录的盘会停住（云盘、坏的阵列），那里 statvfs、写文件会一直等下去：都各在自己的道上，
心跳、指标只取量到的。
"""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from sqlalchemy.engine import Engine

from scns_conductor.worker.agent.own_drain import OwnDrain
from scns_conductor.worker.agent.registration import drain_node
from scns_conductor.worker.host.thread_owner import Lanes

LEAST_FREE_BYTES = 1024**2
LEAST_FREE_INODES = 16
# 这么久没有回音算不答话（秒）。
SILENT_S = 15.0
# 因为不答话做的排空，原因都这样开头：答话了自己撤掉。
PREFIX = "节点自己的目录不答话："


class OwnDisks:
    """folders 是名字 -> 目录。look() 请看的线程各看一眼，不等；别的都只说最近看到的。任何线程都可以用。"""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        # 一个目录至多两条道：一条看，一条写。
        self._lanes = Lanes("own-disk", most=2 * len(self._folders))
        self._lock = threading.Lock()
        # 名字 -> 最近看到的；看不到的没有。
        self._seen: dict[str, os.statvfs_result] = {}
        # 正在看、正在写的 -> 从何时起（单调钟）。
        self._looking: dict[str, float] = {}
        self._writing: dict[str, float] = {}
        # 排着要写的。
        self._to_write: set[str] = set()

    def look(self) -> None:
        """各看一眼；还没有看完的不重来。"""
        with self._lock:
            fresh = [name for name in self._folders if name not in self._looking]
            self._looking |= dict.fromkeys(fresh, time.monotonic())
        for name in fresh:
            self._lanes.submit(name, partial(self._see, name))

    def write(self, name: str, task: Callable[[], object]) -> None:
        """在另一个线程里往这个目录里写，不等；还排着的不再排一遍。写不完也算不答话。"""
        with self._lock:
            if name in self._to_write:
                return
            self._to_write.add(name)
        self._lanes.submit((name, "write"), partial(self._do_write, name, task))

    def close(self) -> None:
        """不再看；还在等的不管。"""
        self._lanes.close()

    def free_bytes(self) -> dict[str, int]:
        """名字 -> 还有多少（字节，普通用户写得进的）；看不到的、不答话的不在其中。"""
        with self._lock:
            silent = self._silent()
            return {name: disk.f_bavail * disk.f_frsize for name, disk in self._seen.items() if name not in silent}

    def silent(self) -> list[Path]:
        """不答话的目录。"""
        with self._lock:
            return [self._folders[name] for name in self._silent()]

    def shortage(self) -> str | None:
        """哪个目录快满了（中文说明）；都够、看不到的返回 None。"""
        with self._lock:
            seen = dict(self._seen)
        for name, where in self._folders.items():
            disk = seen.get(name)
            if disk is None:
                continue
            free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
            if free < LEAST_FREE_BYTES:
                return f"{where} 所在的盘满了，只剩 {free // 1024} KiB；腾出地方之后恢复节点（scns nodes --resume）"
            # 有的文件系统不限 inode，报 0。
            if disk.f_files and disk.f_ffree < LEAST_FREE_INODES:
                return f"{where} 所在的盘没有 inode 了；删掉一些文件之后恢复节点（scns nodes --resume）"
        return None

    def _silent(self) -> list[str]:
        late = time.monotonic() - SILENT_S
        waiting = (self._looking, self._writing)
        return [name for name in self._folders if any(each.get(name, math.inf) < late for each in waiting)]

    def _do_write(self, name: str, task: Callable[[], object]) -> None:
        with self._lock:
            self._to_write.discard(name)
            self._writing[name] = time.monotonic()
        task()
        with self._lock:
            del self._writing[name]

    def _see(self, name: str) -> None:
        try:
            found = os.statvfs(self._folders[name])
        except OSError:
            found = None
        with self._lock:
            del self._looking[name]
            if found is None:
                self._seen.pop(name, None)
            else:
                self._seen[name] = found


class DiskCheck:
    """满了、不答话就排空节点；不答话的答话了自己撤掉，满了的由人恢复。"""

    def __init__(self, engine: Engine, node_name: str, disks: OwnDisks) -> None:
        self._engine = engine
        self._node_name = node_name
        self._disks = disks
        self._silence = OwnDrain(engine, node_name, PREFIX)

    def look(self) -> None:
        """看最近量到的；数据库不在时抛 DATABASE_ERRORS，下次再来。"""
        shortage = self._disks.shortage()
        if shortage is not None:
            drain_node(self._engine, self._node_name, shortage)
        silent = "、".join(map(str, self._disks.silent()))
        self._silence.tell(
            f"节点自己的目录不答话：{silent}（{SILENT_S:g} 秒没有回音）；答话了就自己恢复" if silent else None
        )
