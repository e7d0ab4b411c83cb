"""srun 的 --het-group：各段命令在异构作业的哪些部分里运行。"""

import os
import re
from collections.abc import Sequence

from scns_conductor.client import JsonClient, Problem
from scns_conductor.slurm.session import Fatal

_SPAN = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")


def het_groups(client: JsonClient, inside: str | None, written: Sequence[str | None]) -> list[tuple[int, int | None]]:
    """各段的 --het-group（没有写是 None）-> （第几段, 第几个部分），按部分的次序；平常的作业只有（0, None）。

    没有写的：只有一段的在第 0 个部分里，几段的第 n 段在第 n 个里。inside 为 None 是还没有分配。写错了抛 Fatal。
    """
    for text in written:
        _numbers(text or "")
    if inside is None:
        if any(text is not None for text in written):
            raise Fatal("--het-group can only be used within a heterogeneous job allocation", prefix="fatal: ")
        return [(0, None)] if len(written) == 1 else [(index, index) for index in range(len(written))]
    if written == [None]:
        return [(0, None)]
    size = _size(client, inside)
    found: dict[int, int] = {}
    for index, text in enumerate(written):
        for group in [index] if text is None else _numbers(text):
            if group >= size:
                raise Fatal(
                    f"Attempt to run a job step with het group value of {group}, "
                    f"but the job allocation has maximum value of {size - 1}",
                    prefix="fatal: ",
                )
            if group in found:
                raise Fatal(
                    f"Only one job step can be launched in heterogeneous job component {group} by a single srun",
                    prefix="fatal: ",
                )
            found[group] = index
    if size == 1:
        return [(0, None)]
    return [(found[group], group) for group in sorted(found)]


def _numbers(text: str) -> list[int]:
    """0、0,2-4。"""
    found: list[int] = []
    for word in text.strip("[]").split(",") if text else ():
        match = _SPAN.fullmatch(word.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            lines = (f"_parse_single_range: Invalid range: `{word}'", f"Invalid --het-group value: {text}")
            raise Fatal(*lines)
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def _size(client: JsonClient, inside: str) -> int:
    """这个作业有几个部分；平常的作业是 1。"""
    if inside == os.environ.get("SLURM_JOB_ID"):
        return int(os.environ.get("SLURM_HET_SIZE") or 1)
    try:
        return len([job for job in client.jobs(job_id=inside, fields="het_job_id") if job["het_job_id"]]) or 1
    except Problem:
        return 1
