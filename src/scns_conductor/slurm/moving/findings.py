"""搬不过来的：哪个文件第几行，写的是什么，为什么。"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """文件与行号（从 1 起）。"""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Finding:
    """一处搬不过来的。"""

    place: Place
    text: str
    reason: str


@dataclass(slots=True)
class Findings:
    """全部；hints 是要写进 config.toml 的（名字 -> TOML 的写法）。"""

    found: list[Finding] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)

    def add(self, place: Place, text: str, reason: str) -> None:
        """记下一处；文字里的控制字符写成转义。"""
        shown = text if text.isprintable() else ascii(text)[1:-1]
        self.found.append(Finding(place, shown[:120], reason))
