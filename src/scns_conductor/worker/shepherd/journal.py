"""牧守进程的日志：只追加的 JSON 行，行首是 CRC32；损坏的行移到 .corrupt 文件，其余照读。

记录在代理确认数据库已提交（ack）之后才丢弃。不做 fsync：进程被杀不丢数据；整机掉电后
boot_id 已变，未送达的作业一律按节点故障处理，与是否落盘无关。

每行带着它照哪一版写的（v），没有的是第 1 版：上一版写的照读。
"""

from __future__ import annotations

import json
import os
import zlib

from scns_conductor.worker.shepherd.records import StepRecord
from scns_conductor.worker.wire.compact_json import compact_encoder
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.record import PROTOCOL_VERSION, Record, RecordError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

COMPACT_BYTES = 4 * 1024**2
# 一个作业步活着的记录约这么长。
LIVE_RECORD_BYTES = 800
_encode = compact_encoder(ensure_ascii=True)


def encode_line(record: Mapping[str, object]) -> bytes:
    """记录 -> 带校验的一行。"""
    body = _encode(record).encode()
    return b"%08x " % zlib.crc32(body) + body + b"\n"


def decode_line(line: bytes) -> dict[str, object] | None:
    """一行 -> 记录；校验不符、不是 JSON 映射时返回 None。"""
    head, space, body = line.rstrip(b"\n").partition(b" ")
    try:
        if not space or int(head, 16) != zlib.crc32(body):
            return None
        record = json.loads(body)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class LineHead(Record):
    """每行的开头：t 是哪一种，v 是照哪一版写的。"""

    t: str
    v: int = 1


class HeaderLine(Record):
    """第一行：记录是哪一次开机的，下一个结束的编号。"""

    boot_id: str | None
    next_end_id: int


class UpdateLine(Record):
    """正在运行的作业步变了的几项；名字是 StepRecord 的。"""

    key: str
    fields: dict[str, object]


class AckLine(Record):
    """代理确认了这些结束。"""

    ids: list[int]


_KINDS: dict[type[Record], str] = {
    HeaderLine: "header", StepRecord: "launch", UpdateLine: "update", EndRecord: "end", AckLine: "ack",
}  # fmt: skip


def _line(record: Record) -> bytes:
    return encode_line({"t": _KINDS[type(record)], "v": PROTOCOL_VERSION, **record.to_wire()})


class Journal:
    """running：启动了还没有结束的作业步；ends：已结束、代理还没有确认的记录。两者都以内存为准，日志随后跟上。"""

    def __init__(self, path: str) -> None:
        self.path = path
        self.running: dict[str, StepRecord] = {}
        self.ends: dict[int, EndRecord] = {}
        self.next_end_id = 1
        self.boot_id: str | None = None
        self.corrupt_lines = 0
        self._buffer = bytearray()
        self._fd = -1
        self._size = 0

    def open(self) -> None:
        """读回旧日志，压缩后打开以便追加；读写失败抛 OSError。"""
        self._load()
        self.compact()

    def _load(self) -> None:
        try:
            with open(self.path, "rb") as file:
                corrupt = []
                for line in file:
                    record = decode_line(line)
                    if record is None or not self._apply(record):
                        corrupt.append(line if line.endswith(b"\n") else line + b"\n")
        except FileNotFoundError:
            return
        if corrupt:
            self.corrupt_lines = len(corrupt)
            with open(self.path + ".corrupt", "ab") as aside:
                aside.writelines(corrupt)

    def _apply(self, line: dict[str, object]) -> bool:
        try:
            head = LineHead.from_wire(line)
            kind, version = head.t, head.v
            if kind == "header":
                header = HeaderLine.from_wire(line)
                self.boot_id = header.boot_id
                self.next_end_id = max(self.next_end_id, header.next_end_id)
            elif kind == "launch":
                record = StepRecord.from_wire(line, version)
                self.running[record.key] = record
            elif kind == "update":
                update = UpdateLine.from_wire(line)
                # 对应的 launch 行若已损坏，更新无处可放，但它自身并不损坏。
                if update.key in self.running:
                    self.running[update.key].update_from_wire(update.fields, version)
            elif kind == "end":
                self._apply_end(EndRecord.from_wire(line, version))
            elif kind == "ack":
                for end_id in AckLine.from_wire(line).ids:
                    self.ends.pop(end_id, None)
            else:
                return False
        except ValueError:
            return False
        return True

    def _apply_end(self, end: EndRecord) -> None:
        if end.id is None:
            raise RecordError("日志里的结束没有编号")
        self.ends[end.id] = end
        self.running.pop(end.key, None)
        self.next_end_id = max(self.next_end_id, end.id + 1)

    def launch(self, record: StepRecord) -> None:
        """记下将要启动的作业步；进程在 flush 成功之后才创建。"""
        self.running[record.key] = record
        self._buffer += _line(record)

    def note(self, key: str, **fields: Any) -> None:
        """只更新内存：紧接着就写结束记录的，不必先写一行更新。"""
        record = self.running[key]
        for name, value in fields.items():
            setattr(record, name, value)

    def update(self, key: str, **fields: Any) -> None:
        """更新正在运行的作业步（进程号、挂起、时限的变化）；名字是 StepRecord 的。"""
        self.note(key, **fields)
        self._buffer += _line(UpdateLine(key=key, fields=fields))

    def end(self, record: EndRecord) -> EndRecord:
        """记下一次结束，给它编号并返回。"""
        record.id = self.next_end_id
        self.next_end_id += 1
        self.running.pop(record.key, None)
        self.ends[record.id] = record
        self._buffer += _line(record)
        return record

    def ack(self, ids: list[int]) -> None:
        """代理确认这些结束已进数据库。"""
        for end_id in ids:
            self.ends.pop(end_id, None)
        self._buffer += _line(AckLine(ids=ids))

    def flush(self) -> None:
        """把缓冲写进文件；写不完整时截回原处再抛 OSError，缓冲留着下次重试。"""
        if not self._buffer:
            return
        if self._size > COMPACT_BYTES and self._size > 4 * self._live_bytes_estimate():
            self.compact()
            return
        try:
            written = os.write(self._fd, self._buffer)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        if written < len(self._buffer):
            os.ftruncate(self._fd, self._size)
            raise OSError(28, "磁盘已满，日志没有写完整", self.path)
        self._size += written
        self._buffer.clear()

    def _live_bytes_estimate(self) -> int:
        return LIVE_RECORD_BYTES * (len(self.running) + len(self.ends))

    def compact(self) -> None:
        """只留下还有用的记录，原子地换成新文件；内存里的状态已含缓冲的内容，故清空缓冲。"""
        temporary = self.path + ".new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            lines = [_line(HeaderLine(boot_id=self.boot_id, next_end_id=self.next_end_id))]
            # 结束在前：读回时结束会划掉同一个键的启动，而在这里的启动都比它晚。
            lines.extend(map(_line, self.ends.values()))
            lines.extend(map(_line, self.running.values()))
            data = b"".join(lines)
            if os.write(fd, data) < len(data):
                raise OSError(28, "磁盘已满，日志没有写完整", temporary)
            os.rename(temporary, self.path)
        except OSError:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._size = len(data)
        self._buffer.clear()

    def close(self) -> None:
        """关闭文件；未写的缓冲先写。"""
        self.flush()
        os.close(self._fd)
        self._fd = -1
