"""srun --multi-prog 的文件：各个任务运行哪个命令。"""

import shlex
from collections.abc import Sequence

from scns_conductor.slurm.session import Fatal

MOST_TASKS = 65_536


def multi_prog(argv: Sequence[str], tasks: int | None) -> dict[str, list[str]]:
    """--multi-prog 的文件（argv[0]）：逐个任务的命令，后面接上 argv 其余的词。

    行的开头是任务序号（0、1-3、*）；%t 是序号，%o 是在这一行里的次序；# 只在行首是注释。没有写任务数的由文件定。
    """
    path, added = argv[0], list(argv[1:])
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().replace("\\\n", " ").splitlines()
    except OSError:
        raise Fatal(f"Could not open multi_prog config file {path}") from None
    found: dict[int, list[str]] = {}
    rest: list[str] | None = None
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        first, *words = _words(line) or [""]
        if first == "*":
            rest = words
            continue
        ranks = _ranks(first)
        if ranks is None or not words:
            raise Fatal(f"Line {number} of configuration file {path} invalid")
        for offset, rank in enumerate(ranks):
            if rank >= (tasks or MOST_TASKS):
                raise Fatal(f"Invalid task id, {rank} >= ntasks", f"Line {number} of configuration file {path} invalid")
            found[rank] = _filled(words, rank, offset)
    for rank in range(tasks or max(found, default=0) + 1):
        if rank not in found and rest is None:
            raise Fatal(f"Configuration file {path} invalid, no record for task id {rank}")
        if rank not in found:
            found[rank] = _filled(rest or [], rank, rank)
    return {str(rank): [*found[rank], *added] for rank in sorted(found)}


def _words(line: str) -> list[str]:
    """一行里的词；只有单引号是引号（srun(1)）。"""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.quotes, lexer.escape, lexer.commenters = True, "'", "", ""
    try:
        return list(lexer)
    except ValueError:
        return []


def _ranks(text: str) -> list[int] | None:
    ranks: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) >= MOST_TASKS:
            return None
        ranks += range(int(first), int(last or first) + 1)
    return ranks


def _filled(words: Sequence[str], rank: int, offset: int) -> list[str]:
    return [word.replace("%t", str(rank)).replace("%o", str(offset)) for word in words]
