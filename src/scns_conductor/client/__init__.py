"""Python 客户端，只说 HTTP：from scns_conductor.client import Client。

只用标准库，导入快；命令行就建在它上面。
"""

from scns_conductor.client.conductor import TERMINAL_STATES, Client, ControlAction, QueryAnswer, Submission
from scns_conductor.client.endpoint import Endpoint, find_endpoint
from scns_conductor.client.job_follow import ServerEvent
from scns_conductor.client.problem import ClientError, EndpointUnknown, Problem, Unreachable

__all__ = [
    "TERMINAL_STATES",
    "Client",
    "ClientError",
    "ControlAction",
    "Endpoint",
    "EndpointUnknown",
    "Problem",
    "QueryAnswer",
    "ServerEvent",
    "Submission",
    "Unreachable",
    "find_endpoint",
]
