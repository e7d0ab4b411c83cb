"""路由：头一段路径对不上的，一条也不必比。

FastAPI 把全部路由一条条地比，还比两遍：一百来条，占一个小请求的一半。先看头一段（/nodes/… 的 nodes）。
"""

from fastapi import APIRouter
from starlette._utils import get_route_path
from starlette.routing import Match
from starlette.types import Scope


class SegmentRouter(APIRouter):
    """挂在应用上的一组端点。"""

    _segments: frozenset[str] | None = None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """这里有没有管这个请求的端点。"""
        if self._segments is None:
            # 头一次有请求来时，端点都已登记。
            self._segments = frozenset(_first_segment(getattr(route, "path", "")) for route in self.routes)
        if _first_segment(get_route_path(scope)) not in self._segments:
            return Match.NONE, {}
        return super().matches(scope)


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]
