"""逐页取列表：用着这一页的时候，下一页已经在路上。下一页走另一条连接，不妨碍别的请求。"""

from collections.abc import Iterator, Mapping
from typing import Any

from scns_conductor.client.transport import Transport

PAGE_MOST = 1000


def each_job(transport: Transport, filters: Mapping[str, Any], most: int | None) -> Iterator[dict[str, Any]]:
    """符合条件的作业，至多 most 个；只有一页时只发一个请求。"""
    left = most
    asked = {"limit": min(PAGE_MOST, left or PAGE_MOST), **filters}
    if filters.get("fields"):
        # 不重复字段名：小一半，解析快几倍。
        asked["layout"] = "rows"
    page = _page(transport, asked)
    coming: _Coming | None = None
    ahead: Transport | None = None
    try:
        while left is None or left > 0:
            jobs = page["jobs"]
            if left is not None:
                jobs = jobs[:left]
                left -= len(jobs)
            cursor = page.get("next_cursor")
            last = not cursor or not jobs or left == 0
            if not last:
                ahead = ahead or transport.another()
                coming = _Coming(ahead, {**asked, "cursor": cursor})
            yield from jobs
            if last or coming is None:
                return
            page = coming.take()
    finally:
        if coming is not None:
            coming.wait()
        if ahead is not None:
            ahead.close()


def _page(transport: Transport, query: Mapping[str, Any]) -> Any:
    page = transport.request("GET", "/jobs", query=query).json()
    names = page.get("fields")
    if names is not None:
        page["jobs"] = [dict(zip(names, row, strict=True)) for row in page["jobs"]]
    return page


class _Coming:
    """正在取的一页。"""

    def __init__(self, transport: Transport, query: Mapping[str, Any]) -> None:
        # 多数命令一页就够，用不着线程：用到才导入。
        import threading

        self._transport = transport
        self._query = query
        self._page: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fetch)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            self._page = _page(self._transport, self._query)
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """等它取完，不管结果。"""
        self._thread.join()

    def take(self) -> Any:
        """取到的一页；取的时候出的错在这里抛出。"""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._page
