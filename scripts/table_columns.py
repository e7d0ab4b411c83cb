#!/usr/bin/env python3
"""写出 statements/table_columns.py：作业的各表的列与缺省值。由 openapi.py 调用，单独也行；语句不必导入模型。"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import scns_conductor
from scns_conductor.core.models import Job, JobEvent, JobOutput, JobSamples, JobSpec, JobStep, ResourceAllocation

FILE = Path(scns_conductor.__file__).parent / "statements" / "table_columns.py"
TABLES = (Job, ResourceAllocation, JobEvent, JobOutput, JobSamples, JobStep)
WIDTH = 118


def files() -> dict[Path, str]:
    """现在的模型给出的：文件 -> 内容。"""
    lines = [
        '"""作业的各表的列，照 core/models 由 make openapi 写出，不要手改：代理与调度器的语句不必导入模型。"""',
        "",
        "from typing import Any",
        "",
        "# 提交时写明的（JobSpec）。",
        "# fmt: off",
        "JOB_SPEC: tuple[str, ...] = (",
        *_wrapped(map(_quoted, JobSpec.model_fields), 4),
        ")",
        "# 没有写明时取的值；必须写明的不在其中。",
        "JOB_SPEC_DEFAULTS: dict[str, Any] = {",
        *_wrapped(_defaults(), 4),
        "}",
        "# 表 -> 列。",
        "COLUMNS: dict[str, tuple[str, ...]] = {",
    ]
    for model in TABLES:
        lines += [f'    "{model.__tablename__}": (', *_wrapped(map(_quoted, model.model_fields), 8), "    ),"]
    return {FILE: "\n".join([*lines, "}", "# fmt: on"]) + "\n"}


def _quoted(name: str) -> str:
    return f'"{name}"'


def _defaults() -> Iterator[str]:
    for name, field in JobSpec.model_fields.items():
        if not field.is_required():
            yield f"{_quoted(name)}: {field.get_default(call_default_factory=True)!r}"


def _wrapped(items: Iterable[str], indent: int) -> list[str]:
    lines, line = [], " " * indent
    for item in items:
        word = f"{item},"
        if len(line) + len(word) > WIDTH:
            lines.append(line.rstrip())
            line = " " * indent
        line += f"{word} "
    return [*lines, line.rstrip()]


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
