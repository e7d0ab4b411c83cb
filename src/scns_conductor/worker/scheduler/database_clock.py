"""数据库的钟：调度器读到的时刻都是数据库写的，所以它的「现在」也照数据库的钟，本机的日历对不对都一样。"""

import time


class DatabaseClock:
    """开机秒数加上两者之差；每次续租量一次。还没有量过时用本机的钟。"""

    def __init__(self) -> None:
        self._offset_s = time.time() - _boot_s()
        self._measured = False

    def now(self) -> float:
        """此刻，Unix 秒。"""
        return _boot_s() + self._offset_s

    def measure(self, before_s: float, database_now: float) -> None:
        """一次往返：数据库报的现在，落在 before_s（mark）与此刻之间；差还在这个范围里就不动它，免得来回抖。"""
        least, most = database_now - _boot_s(), database_now - before_s
        if self._measured:
            self._offset_s = min(max(self._offset_s, least), most)
        else:
            self._offset_s = (least + most) / 2
            self._measured = True

    @staticmethod
    def mark() -> float:
        """往返之前的开机秒数。"""
        return _boot_s()


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
