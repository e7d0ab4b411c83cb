"""同步与异步的客户端共有的：找到系统、令牌、期限；怎样收发各是各的。"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from scns_conductor.client.accounting_calls import AccountingCalls
from scns_conductor.client.cluster_calls import ClusterCalls
from scns_conductor.client.endpoint import find_endpoint
from scns_conductor.client.job_calls import JobCalls
from scns_conductor.client.problem import Problem
from scns_conductor.client.transport_base import TransportBase
from scns_conductor.client.wire import Times

T = TypeVar("T", bound=TransportBase[Any])


class ClientBase(JobCalls, ClusterCalls, AccountingCalls, Generic[T]):
    """参数的意思见 Client。"""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        data_source: str = "API",
        patience_s: float = 0.0,
        reconnect_s: float = 0.0,
        deadline_s: float | None = None,
        on_wait: Callable[[Problem, float], None] | None = None,
    ) -> None:
        source = ""
        if url is None:
            endpoint = find_endpoint()
            url, token, source = endpoint.url, token or endpoint.token, endpoint.source
        times = Times(timeout_s, patience_s, reconnect_s, deadline_s)
        self.transport = self._open(url, token, source=source, times=times, on_wait=on_wait)
        self._token, self._data_source = token, data_source

    def _open(self, url: str, token: str | None, **options: Any) -> T:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """API 的地址。"""
        return self.transport.place.url

    @property
    def token(self) -> str | None:
        """在用的令牌。"""
        return self._token
