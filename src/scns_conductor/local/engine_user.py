"""引擎以谁的身份运行。PostgreSQL 拒绝以 root 运行：root 启动时换成系统里已有的普通用户，不新建用户。"""

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scns_conductor.core.errors import SettingsError

# initdb 要求有效 uid 在用户库里有登记，所以只能用已有的用户；Debian 一定有后两个。
CANDIDATES = ("postgres", "nobody", "daemon")
# 程序在别人进不去的目录（如 /root 下的 .venv）里时，复制到这里；FHS 规定 /var/cache 放可再生成的文件。
PROGRAM_CACHE = Path("/var/cache/scns-conductor")


@dataclass(frozen=True, slots=True)
class EngineUser:
    """引擎的身份；switch 为假表示就是启动者自己。"""

    name: str
    uid: int
    gid: int
    switch: bool

    def popen_options(self) -> dict[str, Any]:
        """交给 subprocess 的身份参数；不换身份时为空。"""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, path: Path) -> None:
        """建立只有引擎用户能进的目录；已有的须是目录本身，不跟随符号链接。"""
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if self.switch:
                os.fchown(descriptor, self.uid, self.gid)
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)


def choose_engine_user(existing: Path) -> EngineUser:
    """选定身份。existing 是已有的引擎数据目录，存在时沿用它的主人；没有合适的用户时抛 SettingsError。"""
    uid = os.geteuid()
    if uid != 0:
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError as error:
            raise SettingsError(
                f"用户库里没有 uid {uid}，PostgreSQL 不能以它运行；请在 /etc/passwd 登记，或改用外部数据库"
            ) from error
        return EngineUser(name, uid, os.getegid(), switch=False)
    if existing.is_dir() and existing.stat().st_uid != 0:
        owner = pwd.getpwuid(existing.stat().st_uid)
        return EngineUser(owner.pw_name, owner.pw_uid, owner.pw_gid, switch=True)
    for candidate in CANDIDATES:
        try:
            entry = pwd.getpwnam(candidate)
        except KeyError:
            continue
        return EngineUser(candidate, entry.pw_uid, entry.pw_gid, switch=True)
    raise SettingsError(f"以 root 启动时 PostgreSQL 需要一个普通用户，系统里没有 {'、'.join(CANDIDATES)} 中的任何一个")


def runnable(program: Path, user: EngineUser) -> bool:
    """这个用户能否真的运行它：走不到（上级目录不许进）或不许执行都是 False。"""
    try:
        done = subprocess.run(
            [str(program), "--version"], cwd="/", capture_output=True, check=False, **user.popen_options()
        )
    except PermissionError:
        return False
    return done.returncode == 0


def place_programs(root: Path, trees: Sequence[str], program: str, label: str, user: EngineUser) -> Path:
    """返回引擎用户能用的安装目录：root 本身，走不到时是它在 PROGRAM_CACHE 里的副本（目录名以 label 开头）。

    trees 是 root 之下要用到的目录，相互位置保持不变（程序按相对位置找自己的动态库）；program 是其中一个可执行文件。
    副本属 root，别人只读；绝不放宽原有目录的权限。
    """
    if runnable(root / program, user):
        return root
    # 以内容命名：同一版本不论装在几个虚拟环境里，副本只有一份。
    target = PROGRAM_CACHE / f"{label}-{hashlib.sha256((root / program).read_bytes()).hexdigest()[:16]}"
    if not target.is_dir():
        _copy(root, trees, target)
    if not runnable(target / program, user):
        raise SettingsError(f"用户 {user.name} 不能运行 {target / program}；请检查该文件系统是否带 noexec")
    return target


def _copy(root: Path, trees: Sequence[str], target: Path) -> None:
    PROGRAM_CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    staging = target.with_name(f"{target.name}.{os.getpid()}")
    for tree in trees:
        if (root / tree).is_dir():
            ignore = shutil.ignore_patterns("include", "__pycache__", "*.py")
            shutil.copytree(root / tree, staging / tree, symlinks=True, ignore=ignore)
    for path in (staging, *staging.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        staging.rename(target)
    except OSError:  # 另一个进程同时放好了同一份
        shutil.rmtree(staging)
        if not target.is_dir():
            raise
