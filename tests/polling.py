"""等一件事时隔多久看一眼。"""

import time

FIRST_S = 0.01
LAST_S = 0.25
SHARE = 0.15


def pause(began: float) -> None:
    """从 began（单调秒）等起，歇到下一次看：等得越久看得越疏，晚知道至多一成多。

    看一眼往往是一个请求：几个进程一起等时，看得太密的话 API 与数据库的 CPU 都花在回答“还没有”上。
    """
    time.sleep(min(LAST_S, max(FIRST_S, (time.monotonic() - began) * SHARE)))
