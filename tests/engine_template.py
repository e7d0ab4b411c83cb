"""PostgreSQL 数据目录的样板：initdb 与全部迁移，一次测试运行只做一遍；各引擎、各系统照它复制，不再各做各的。

样板的位置在环境变量里，几个 xdist 的进程共用；没有这个变量（别处借用 start_system 的脚本）就没有样板，照平常从头建。
"""

import fcntl
import os
import subprocess
from pathlib import Path

from own_database import settings_for
from scns_conductor import migrations
from scns_conductor.local.engines import running_engines
from scns_conductor.local.postgres import DATABASE

PLACE = "TEST_ENGINE_TEMPLATE"


def copy_template(data_dir: Path) -> None:
    """data_dir 还没有数据库时，放一份样板进去；已经有的不碰。"""
    place = os.environ.get(PLACE)
    target = data_dir / "postgres"
    if place is None or target.exists():
        return
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # -a 连主人一起：引擎以别的用户运行。
    subprocess.run(["cp", "-a", "--reflink=auto", str(_template(Path(place))), str(target)], check=True)


def _template(place: Path) -> Path:
    """样板；还没有就建，别的进程等着。"""
    ready = place / "postgres"
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            with running_engines(place / "making") as engines:
                migrations.upgrade(settings_for(engines, DATABASE, place))
            (place / "making" / "postgres").rename(ready)
    return ready
