"""重放线上系统时，启动之后停过的（抢占、时间片）真的在走的各段；没有停过的一直走到做完，不记。"""

from collections.abc import Mapping

from scns_conductor.simulator.workload import Span


class Walks:
    """spans 是 places 里的位置 -> 各段（Unix 秒），ran_s 是其中没有做完就被结束的跑了多久；别的作业不记。"""

    def __init__(self, places: Mapping[int, int]) -> None:
        self._places = places
        self._since: dict[int, float] = {}
        self.spans: dict[int, list[Span]] = {}
        self.ran_s: dict[int, float] = {}

    def go(self, number: int, now: float) -> None:
        """启动了，接着走了。"""
        if number in self._places:
            self._since[number] = now

    def stop(self, number: int, now: float) -> None:
        """停下了。"""
        since = self._since.pop(number, None)
        if since is not None:
            self.spans.setdefault(self._places[number], []).append((since, now))

    def cut(self, number: int, now: float) -> None:
        """没有做完就被结束。"""
        self.stop(number, now)
        if number in self._places:
            place = self._places[number]
            self.ran_s[place] = sum(until - since for since, until in self.spans.get(place, ()))

    def end(self, number: int, now: float) -> None:
        """做完了。"""
        if self._places.get(number) in self.spans:
            self.stop(number, now)
        self._since.pop(number, None)

    def again(self, number: int) -> None:
        """从头再来：从前的不算。"""
        self._since.pop(number, None)
        if number in self._places:
            self.spans.pop(self._places[number], None)
