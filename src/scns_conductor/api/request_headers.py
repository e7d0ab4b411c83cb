"""请求头 -> 值：一个请求只解一遍，各层都看同一份。"""

from collections.abc import Mapping

from starlette.types import Scope

_KEPT = "scns.headers"


def headers_of(scope: Scope) -> Mapping[str, str]:
    """名字是小写的；写了几遍的是第一遍，同 Starlette 的 Headers，只是不必每问一样就从头找一遍。"""
    found: dict[str, str] | None = scope.get(_KEPT)
    if found is None:
        raw = scope["headers"]
        found = scope[_KEPT] = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw)}
    return found
