"""本机的日历时钟与数据库的差得太多：排空节点，说差多少；对上了自己撤掉。

时限与结束时刻不靠它（开机秒数、数据库的钟），作业自己却看得到它：文件的时刻、证书、许可证。
"""

import time

from sqlalchemy.engine import Engine

from scns_conductor.worker.agent.own_drain import OwnDrain

# 自己做的排空，原因都这样开头。
PREFIX = "本机的时钟与数据库的差 "


class ClockCheck:
    """tolerance_s 是差多少算太多（秒），0 是不管。"""

    def __init__(self, engine: Engine, node_name: str, tolerance_s: float) -> None:
        self._tolerance_s = tolerance_s
        self._drain = OwnDrain(engine, node_name, PREFIX)

    def look(self, database_now: float) -> None:
        """database_now 是数据库刚才报的现在（Unix 秒）；变了才写，数据库不在时抛 DATABASE_ERRORS，下次再来。"""
        ahead_s = time.time() - database_now
        off = 0 < self._tolerance_s < abs(ahead_s)
        self._drain.tell(
            f"本机的时钟与数据库的差 {ahead_s:+.0f} 秒（正的是这里快）；对好时（chronyc、timedatectl）就自己恢复"
            if off
            else None
        )
