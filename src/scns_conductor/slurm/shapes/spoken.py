"""我们说的是哪一版 Slurm：SCNS_SLURM_VERSION，缺省最新。命令的 --version、JSON 与 slurmrestd 都照它。"""

import os

# 版本 -> (打印的全名, 它的 JSON 缺省是哪一版 data_parser)。
RELEASES = {
    "22.05": ("22.05.8", "v0.0.38"),
    "23.02": ("23.02.7", "v0.0.39"),
    "23.11": ("23.11.10", "v0.0.40"),
    "24.05": ("24.05.8", "v0.0.41"),
    "24.11": ("24.11.6", "v0.0.42"),
    "25.05": ("25.05.4", "v0.0.43"),
    "25.11": ("25.11.0", "v0.0.44"),
}
NEWEST = "25.11"


def spoken() -> str:
    """如 25.11；认不出的当作最新（写 25.11.2 也认）。"""
    given = ".".join(os.environ.get("SCNS_SLURM_VERSION", "").split(".")[:2])
    return given if given in RELEASES else NEWEST


def release(series: str | None = None) -> str:
    """全名，如 25.11.0。"""
    return RELEASES[series or spoken()][0]


def default_parser() -> str:
    """--json 没有写版本时的样子，如 v0.0.44。"""
    return RELEASES[spoken()][1]
