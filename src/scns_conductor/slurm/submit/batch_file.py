"""sbatch 的脚本从哪里来，以及 Slurm 拒绝它的那几种情形（sbatch.c 的 _get_script_buffer）。"""

import os
import sys

from scns_conductor.slurm.session import Fatal


def read_script(path: str | None, wrap: str | None) -> str:
    """脚本的全文；不像脚本的抛 Fatal。"""
    if wrap is not None:
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{wrap}\n"
    try:
        if path is None or path == "-":
            data = sys.stdin.buffer.read()
        else:
            # 逐块读到头：/dev/stdin 可能是管道，不能定位，也问不出大小。
            with open(_found(path), "rb") as stream:
                data = stream.read()
    except IsADirectoryError as error:
        raise Fatal("Batch script is empty!") from error
    except OSError as error:
        raise Fatal(f"Unable to open file {path}") from error
    return checked_script(data)


def _found(path: str) -> str:
    """不含 / 而当前目录没有的，按 PATH 找（search_path）。"""
    if "/" in path or os.path.exists(path):
        return path
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return next((full for folder in folders if os.path.isfile(full := os.path.join(folder, path))), path)


def checked_script(data: bytes) -> str:
    """核对脚本的样子；次序与 Slurm 相同。"""
    if not data:
        raise Fatal("Batch script is empty!")
    if not data.strip():
        raise Fatal("Batch script contains only whitespace!")
    if not data.startswith(b"#!"):
        raise Fatal(
            "This does not look like a batch script.  The first",
            "line must start with #! followed by the path to an interpreter.",
            "For instance: #!/bin/sh",
        )
    if b"\0" in data:
        raise Fatal("The Slurm controller does not allow scripts that", "contain a NULL character '\\0'.")
    if b"\r\n" in data:
        raise Fatal("Batch script contains DOS line breaks (\\r\\n)", "instead of expected UNIX line breaks (\\n).")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Fatal("Batch script is not valid UTF-8 text") from error
