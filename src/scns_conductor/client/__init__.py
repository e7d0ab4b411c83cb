"""Python 客户端，只说 HTTP：from scns_conductor.client import Client，或 AsyncClient。

只用标准库，导入快；命令行就建在它上面（JsonClient）。回答的类型在 answers，错误的类型在 problems。
"""

from typing import TYPE_CHECKING, Any

from scns_conductor.client.conductor import Client, JsonClient
from scns_conductor.client.endpoint import Endpoint, find_endpoint
from scns_conductor.client.job_calls import ControlAction, Submission
from scns_conductor.client.job_follow import ServerEvent
from scns_conductor.client.job_states import TERMINAL_STATES
from scns_conductor.client.problem import ClientError, EndpointUnknown, Problem, Unreachable

if TYPE_CHECKING:
    from scns_conductor.client.async_client import AsyncClient
    from scns_conductor.client.executor import ConductorExecutor
    from scns_conductor.client.gantt import gantt
    from scns_conductor.client.job_function import job, shared_executor
    from scns_conductor.client.job_future import JobFailed, JobFuture

# 用到才导入：asyncio 要几十毫秒，执行器要线程。
_LATER = {
    "AsyncClient": "async_client",
    "ConductorExecutor": "executor",
    "JobFailed": "job_future",
    "JobFuture": "job_future",
    "gantt": "gantt",
    "job": "job_function",
    "shared_executor": "job_function",
}

__all__ = [
    "TERMINAL_STATES",
    "AsyncClient",
    "Client",
    "ClientError",
    "ConductorExecutor",
    "ControlAction",
    "Endpoint",
    "EndpointUnknown",
    "JobFailed",
    "JobFuture",
    "JsonClient",
    "Problem",
    "ServerEvent",
    "Submission",
    "Unreachable",
    "find_endpoint",
    "gantt",
    "job",
    "shared_executor",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"scns_conductor.client.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
