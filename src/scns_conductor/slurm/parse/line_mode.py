"""没有写命令时从标准输入一行一条：scontrol、sreport、sacctmgr 的逐行模式。"""

import sys
from collections.abc import Iterator


def prompted_lines(command: str) -> Iterator[str]:
    """每次先写提示，再读一行，到头为止。标准输入不是终端时，把读到的也打印出来（同 Slurm）。"""
    echo = not sys.stdin.isatty()
    while True:
        print(f"{command}: ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            print()
            return
        if echo:
            print(line.rstrip("\n"), flush=True)
        yield line
