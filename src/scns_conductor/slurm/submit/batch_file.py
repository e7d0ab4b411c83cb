"""sbatch 的脚本从哪里来，以及 Slurm 拒绝它的那几种情形（sbatch.c 的 _get_script_buffer）。"""

import os
import sys

from scns_conductor.slurm.session import Fatal


def read_script(path: str | None, wrap: str | None) -> str:
    """脚本的全文；path 是 found_script 找到的。不像脚本的抛 Fatal。"""
    if wrap is not None:
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{wrap}\n"
    try:
        if path is None or path == "-":
            data = sys.stdin.buffer.read()
        else:
            # 逐块读到头：/dev/stdin 可能是管道，不能定位，也问不出大小。
            with open(path, "rb") as stream:
                data = stream.read()
    except IsADirectoryError as error:
        raise Fatal("Batch script is empty!") from error
    except OSError as error:
        raise Fatal(f"Unable to open file {path}") from error
    return checked_script(data)


def found_script(path: str, folder: str | None) -> str:
    """先是 -D 的目录 folder（没有写是当前目录），不含 / 的再按 PATH，最后是当前目录（path_resolution(7)）。"""
    here = os.path.join(folder or "", path)
    if os.path.exists(here):
        return here
    folders = [] if "/" in path else os.environ.get("PATH", "").split(os.pathsep)
    return next((full for each in folders if os.path.isfile(full := os.path.join(each, path))), path)


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
