"""收下而做不到的选项：作业照跑，在标准错误说一句，不悄悄没了。"""

import os
import sys
from collections.abc import Mapping

from scns_conductor.slurm.session import say

_WHY = {
    "cpu_freq": "this system does not change CPU frequencies",
    "gpu_freq": "this system does not change GPU clocks",
}
# --profile 里收不到的；能耗是 GPU 的。
_NOT_COLLECTED = ("lustre", "network", "filesystem")


def warn_unmet(given: Mapping[str, str]) -> None:
    """写了的各说一行。"""
    for key, why in _WHY.items():
        if given.get(key):
            _warn(f"--{key.replace('_', '-')} has no effect: {why}")
    words = given.get("profile", "").lower().split(",")
    for word in _NOT_COLLECTED:
        if word in words:
            _warn(f"--profile={word} has no effect: this system does not collect it")


def _warn(line: str) -> None:
    say(os.path.basename(sys.argv[0]), f"warning: {line}")
