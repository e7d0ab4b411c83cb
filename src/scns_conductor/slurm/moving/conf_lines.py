r"""slurm.conf 一类文件的行：续行（行末的 \）、注释、Include、键=值（值可以加引号）。写坏的记下，从不抛出。"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scns_conductor.slurm.moving.findings import Findings, Place

_PAIR = re.compile(r'([A-Za-z][A-Za-z0-9_]*)\s*[+-]?=\s*("[^"]*"|[^\s"]*)')
_INCLUDE = re.compile(r"^\s*include\s+(\S+)\s*$", re.IGNORECASE)
_CLUSTER = re.compile(r"^\s*clustername\s*=\s*(\S+)", re.IGNORECASE)
_COMMENT = re.compile(r"(?<!\\)#.*$")
_DEEPEST = 16
# 一个文件至多这么大（字节）：别的多半不是设置文件。
LARGEST = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class ConfLine:
    """一行里的各个键值：键是小写的，次序照写的；text 是原文。"""

    place: Place
    text: str
    pairs: tuple[tuple[str, str], ...]

    def words(self) -> dict[str, str]:
        """键 -> 值；重复的后一个算。"""
        return dict(self.pairs)


def read_conf(path: Path, findings: Findings) -> list[ConfLine]:
    """一个文件连同它包含的；读不了的记下。"""
    found: list[ConfLine] = []
    for place, text in _texts(path, path.parent, findings, ()):
        if _INCLUDE.match(text) is not None:
            findings.add(place, text, "包含得太深，或包含了自己")
            continue
        pairs, left = [], text
        for match in _PAIR.finditer(text):
            pairs.append((match[1].lower(), match[2].strip('"').replace("\\#", "#")))
            left = left.replace(match[0], " ", 1)
        if left.strip():
            findings.add(place, left.strip(), "不成 键=值")
        if pairs:
            found.append(ConfLine(place, text.strip(), tuple(pairs)))
    return found


def _texts(path: Path, folder: Path, findings: Findings, above: tuple[Path, ...]) -> Iterator[tuple[Place, str]]:
    """去掉注释、接好续行的各行；包含的文件就地展开。"""
    try:
        data = path.read_bytes()[: LARGEST + 1]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "路径不对"
        findings.add(Place(str(path), 0), str(path), f"读不了：{reason}")
        return
    if len(data) > LARGEST:
        findings.add(Place(str(path), 0), str(path), "太大，不像设置文件")
        return
    cluster = ""
    for number, text in _joined(data.decode("utf-8-sig", "replace")):
        named = _CLUSTER.match(text)
        cluster = named[1] if named else cluster
        include = _INCLUDE.match(text)
        if include is None:
            yield Place(str(path), number), text
            continue
        inner = folder / include[1].strip('"').replace("%c", cluster)
        if inner in (*above, path) or len(above) >= _DEEPEST:
            yield Place(str(path), number), text
        else:
            yield from _texts(inner, folder, findings, (*above, path))


def _joined(text: str) -> Iterator[tuple[int, str]]:
    started, kept = 0, ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        plain = _COMMENT.sub("", line)
        started = started or number
        if plain.endswith("\\"):
            kept += plain[:-1] + " "
            continue
        whole = (kept + plain).strip()
        if whole:
            yield started, whole
        started, kept = 0, ""
    if kept.strip():
        yield started, kept.strip()
