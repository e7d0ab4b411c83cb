"""死信：数据库收不下的结束，一行一条 JSON，连同原因，0600。结局写成了就划掉；文件不在表示没有。

牧守进程没有得到确认，还留着原样的记录：管理员排除了原因，重启代理就会再送一遍（docs/failures.md）。
"""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from scns_conductor.worker.wire.end_record import EndRecord

logger = logging.getLogger(__name__)


class DeadLetters:
    """一个节点的死信文件。线程安全。"""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._lines: dict[str, str] = {}
        # 本次运行里停放的：核对时不算丢失，也不再造一遍。
        self._parked: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._lines[str(json.loads(line)["key"])] = line

    def owners(self) -> set[tuple[int, int]]:
        """本次运行里停放的（作业号，尝试）。"""
        with self._lock:
            return set(self._parked.values())

    def keys(self) -> set[str]:
        """本次运行里停放的作业步的键。"""
        with self._lock:
            return set(self._parked)

    def park(self, end: EndRecord, reason: str) -> None:
        """停放一条；文件写不进去（盘满）时记进日志，牧守进程那里仍有。"""
        self._park(end.key, end.owner, end.to_wire(), reason)

    def park_unreadable(self, wire: object, reason: str) -> str:
        """停放读不懂的一条（别的版本写的、日志坏了的），返回它的键。"""
        known = wire if isinstance(wire, dict) else {}
        key, owner = str(known.get("key")), None
        with contextlib.suppress(KeyError, TypeError, ValueError):
            owner = (int(known["job_id"]), int(known["attempt"]))
        self._park(key, owner, wire, reason)
        return key

    def _park(self, key: str, owner: tuple[int, int] | None, wire: object, reason: str) -> None:
        told = {"key": key, "parked_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "reason": reason, "end": wire}
        with self._lock:
            if owner is not None:
                self._parked[key] = owner
            self._lines[key] = json.dumps(told, default=repr)
            self._write()

    def delivered(self, keys: Iterable[str]) -> None:
        """这些终于写成了。"""
        if not self._lines:
            return
        with self._lock:
            gone = [key for key in keys if self._lines.pop(key, None) is not None]
            for key in gone:
                self._parked.pop(key, None)
                logger.info("parked_end_delivered", extra={"key": key})
            if gone:
                self._write()

    def _write(self) -> None:
        try:
            if not self._lines:
                self.path.unlink(missing_ok=True)
                return
            draft = self.path.with_name(f".{self.path.name}")
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in self._lines.values())
            os.rename(draft, self.path)
        except OSError as error:
            logger.error("dead_letters_unwritable", extra={"path": str(self.path), "error": error.strerror})
