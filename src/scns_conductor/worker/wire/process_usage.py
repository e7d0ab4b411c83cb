"""用量：CPU 秒、内存峰值（KiB）、读写字节。"""

from __future__ import annotations

from scns_conductor.worker.wire.record import PROTOCOL_VERSION, Record


class Usage(Record):
    """一个进程、一个作业步、一个作业的用量。"""

    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_kb: int = 0
    read_bytes: int = 0
    written_bytes: int = 0

    def add(self, other: Usage) -> None:
        """并入另一个进程的用量；内存峰值取大。"""
        self.user_s += other.user_s
        self.system_s += other.system_s
        self.max_rss_kb = max(self.max_rss_kb, other.max_rss_kb)
        self.read_bytes += other.read_bytes
        self.written_bytes += other.written_bytes

    def raise_to(self, other: Usage) -> None:
        """各项取大：采样值与最终值里大的那个更接近真相。"""
        self.user_s = max(self.user_s, other.user_s)
        self.system_s = max(self.system_s, other.system_s)
        self.max_rss_kb = max(self.max_rss_kb, other.max_rss_kb)
        self.read_bytes = max(self.read_bytes, other.read_bytes)
        self.written_bytes = max(self.written_bytes, other.written_bytes)

    def to_wire(self, version: int = PROTOCOL_VERSION) -> dict[str, object]:
        """写进结束记录：秒到微秒为止。"""
        return {
            "user_s": round(self.user_s, 6),
            "system_s": round(self.system_s, 6),
            "max_rss_kb": self.max_rss_kb,
            "read_bytes": self.read_bytes,
            "written_bytes": self.written_bytes,
        }
