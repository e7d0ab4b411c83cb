"""同步与异步的客户端共有的：找到系统、令牌、期限；怎样收发各是各的。"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from scns_conductor.client.accounting_calls import AccountingCalls
from scns_conductor.client.cluster_calls import ClusterCalls
from scns_conductor.client.endpoint import find_endpoint
from scns_conductor.client.job_calls import JobCalls
from scns_conductor.client.login_calls import LoginCalls
from scns_conductor.client.output_calls import OutputCalls
from scns_conductor.client.problem import EndpointUnknown, Problem
from scns_conductor.client.standing_calls import StandingCalls
from scns_conductor.client.step_calls import StepCalls
from scns_conductor.client.token_calls import TokenCalls
from scns_conductor.client.transport_base import TransportBase
from scns_conductor.client.wait_calls import WaitCalls
from scns_conductor.client.webhook_calls import WebhookCalls
from scns_conductor.client.wire import Times

T = TypeVar("T", bound=TransportBase[Any])


class ClientBase(
    JobCalls,
    WaitCalls,
    OutputCalls,
    StepCalls,
    ClusterCalls,
    AccountingCalls,
    StandingCalls,
    WebhookCalls,
    TokenCalls,
    LoginCalls,
    Generic[T],
):
    """参数的意思见 Client。"""

    def __init__(
        self,
        url: str | None = None,
        token: str | Callable[[], str | None] | None = None,
        *,
        timeout_s: float = 60.0,
        data_source: str = "API",
        patience_s: float = 0.0,
        reconnect_s: float = 0.0,
        deadline_s: float | None = None,
        on_wait: Callable[[Problem, float], None] | None = None,
    ) -> None:
        source, renew = "", None
        if callable(token):
            renew, token = token, token()
        if url is None:
            endpoint = find_endpoint()
            if not token:
                token, renew = endpoint.token, _found_again
            url, source = endpoint.url, endpoint.source
        times = Times(timeout_s, patience_s, reconnect_s, deadline_s)
        self.transport = self._open(url, token, source=source, renew=renew, times=times, on_wait=on_wait)
        self._data_source = data_source

    def _open(self, url: str, token: str | None, **options: Any) -> T:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """API 的地址。"""
        return self.transport.place.url

    @property
    def token(self) -> str | None:
        """在用的令牌。"""
        return self.transport.place.token


def _found_again() -> str | None:
    """令牌过期了而 client.json 已经换新（scns token --install）：接着用新的。"""
    try:
        return find_endpoint().token
    except EndpointUnknown:
        return None
