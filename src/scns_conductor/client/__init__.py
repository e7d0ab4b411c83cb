"""Python 客户端，只说 HTTP：from scns_conductor.client import Client，或 AsyncClient。

只用标准库，导入快；命令行就建在它上面（JsonClient）。回答的类型在 answers，错误的类型在 problems。
"""

from typing import TYPE_CHECKING, Any

from scns_conductor.client.conductor import Client, JsonClient
from scns_conductor.client.endpoint import Endpoint, find_endpoint
from scns_conductor.client.job_calls import TERMINAL_STATES, ControlAction, Submission
from scns_conductor.client.job_follow import ServerEvent
from scns_conductor.client.problem import ClientError, EndpointUnknown, Problem, Unreachable

if TYPE_CHECKING:
    from scns_conductor.client.async_client import AsyncClient

__all__ = [
    "TERMINAL_STATES",
    "AsyncClient",
    "Client",
    "ClientError",
    "ControlAction",
    "Endpoint",
    "EndpointUnknown",
    "JsonClient",
    "Problem",
    "ServerEvent",
    "Submission",
    "Unreachable",
    "find_endpoint",
]


def __getattr__(name: str) -> Any:
    # asyncio 要几十毫秒：用到才导入。
    if name == "AsyncClient":
        from scns_conductor.client.async_client import AsyncClient

        return AsyncClient
    raise AttributeError(name)
