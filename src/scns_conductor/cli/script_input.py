"""要提交的脚本：从文件、标准输入或 --wrap 来；以及其中的 #SBATCH、#SCNS 行。"""

import os
import sys
from dataclasses import dataclass

import click

from scns_conductor.core import batch_script


@dataclass(frozen=True, slots=True)
class ScriptSource:
    """整份脚本，以及没有 --job-name 时的作业名。"""

    text: str
    name: str


def read_script(file: str | None, wrap: str | None) -> ScriptSource:
    """读出脚本；读不到、不是文本抛 click.ClickException 或用法错误。"""
    if wrap is not None:
        if file is not None:
            raise click.UsageError("--wrap 与脚本文件不能同用")
        return ScriptSource(f"#!/bin/sh\n# 由 --wrap 生成\n\n{wrap}\n", "wrap")
    try:
        if file is None or file == "-":
            if file is None and sys.stdin.isatty():
                raise click.UsageError("要给出脚本文件，或用 - 从标准输入读")
            data, name = sys.stdin.buffer.read(), "sbatch"
        else:
            with open(file, "rb") as stream:
                data = stream.read()
            name = os.path.basename(file) or "sbatch"
        return ScriptSource(data.decode(), name)
    except OSError as error:
        raise click.ClickException(f"读不到脚本 {file}：{error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"脚本 {file} 不是 UTF-8 文本；提交的应是脚本，不是程序或数据") from error


def header_tokens(script: str) -> list[str]:
    """#SBATCH、#SCNS 行里的选项词；引号不配对抛 click.UsageError。"""
    try:
        return batch_script.header_tokens(script)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
