"""把各命令建成链接：scns slurm install --prefix DIR。从不覆盖不是自己建的文件，免得遮住真的 Slurm。"""

import os
import stat
from pathlib import Path

from scns_conductor.slurm.entry import COMMANDS

MARK = "scns_conductor.slurm.entry"


def launcher_text(python: str) -> str:
    """启动器：-I 之外不用 console script，省去 pkg_resources 一类的导入。"""
    return f"#!{python}\nimport sys\n\nfrom {MARK} import main\n\nmain(sys.argv)\n"


def is_own(path: Path) -> bool:
    """是不是 install 建的链接。"""
    return path.is_symlink() and os.readlink(path) == "scns-slurm"


def is_installed(prefix: Path, python: str) -> bool:
    """都建好了，用的就是这个 Python。"""
    launcher = prefix / "scns-slurm"
    return (
        all(is_own(prefix / name) for name in COMMANDS)
        and launcher.is_file()
        and launcher.read_text(errors="replace") == launcher_text(python)
    )


def install(prefix: Path, python: str) -> list[Path]:
    """在 prefix 里写 scns-slurm 与各命令的链接，返回建好的；有同名的别人的文件抛 FileExistsError。"""
    prefix.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        path = prefix / name
        if os.path.lexists(path) and not is_own(path):
            raise FileExistsError(f"{path} 已存在，而且不是本系统建的；请换一个 --prefix，以免遮住真的 Slurm")
    launcher = prefix / "scns-slurm"
    if launcher.exists() and MARK not in launcher.read_text(errors="replace"):
        raise FileExistsError(f"{launcher} 已存在，而且不是本系统建的")
    fresh = prefix / ".scns-slurm.new"
    fresh.write_text(launcher_text(python))
    fresh.chmod(fresh.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    fresh.replace(launcher)
    links = [prefix / name for name in COMMANDS]
    for link in links:
        if not link.is_symlink():
            link.symlink_to("scns-slurm")
    return links
