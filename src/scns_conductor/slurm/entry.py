"""Slurm 命令的唯一入口：按 argv[0] 的名字分派；只导入用到的那一个命令。"""

import gc
import importlib
import os
import sys

from scns_conductor.core.text import is_text, output_written, tolerant_streams
from scns_conductor.language import speak_only

# 命令 -> 它的房间；模块与命令同名。这张表也是 scns slurm install 要建的链接。
COMMANDS = {
    "sbatch": "submit",
    "squeue": "queue",
    "scancel": "control",
    "sinfo": "nodes",
    "sacct": "accounting",
    "scontrol": "control",
    "srun": "step",
    "salloc": "submit",
    "sstat": "step",
    "sattach": "step",
    "sbcast": "step",
    "sgather": "step",
    "strigger": "control",
    "scrontab": "submit",
    "sprio": "queue",
    "sshare": "accounting",
    "sreport": "accounting",
    "sacctmgr": "accounting",
    "sdiag": "control",
    "seff": "accounting",
}


def main(argv: list[str] | None = None) -> None:
    """sbatch …；或 scns-slurm sbatch …（没有链接时）。"""
    words = list(sys.argv if argv is None else argv)
    name = os.path.basename(words[0])
    if name not in COMMANDS and len(words) > 1 and words[1] in COMMANDS:
        words = words[1:]
        name = words[0]
    if name not in COMMANDS:
        print(f"Usage: scns-slurm COMMAND [OPTIONS]; commands: {' '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    tolerant_streams()
    speak_only("en")
    # 十万行的列表不成环：回收器一遍遍走过它要占去五分之一的时间。
    gc.set_threshold(200_000, 20, 100)
    # 参数要写进 JSON；与其处处防着，不如在门口说清楚。
    broken = next((word for word in words[1:] if not is_text(word)), None)
    if broken is not None:
        print(f"{name}: error: argument {broken!r} is not valid UTF-8", file=sys.stderr)
        raise SystemExit(1)
    with output_written(lambda why: f"{name}: error: write error: {why}"):
        raise SystemExit(_run(name, words))


def _run(name: str, words: list[str]) -> int:
    if any(word in ("-V", "--version") for word in words[1:2]):
        from scns_conductor.slurm.shapes.spoken import release

        print(f"slurm {release()}")
        return 0
    from scns_conductor.slurm.session import run

    module = importlib.import_module(f"scns_conductor.slurm.{COMMANDS[name]}.{name}")
    return run(name, module.main, words[1:])


if __name__ == "__main__":
    main()
