"""-vv：每个请求说一行——问了谁、多久、不成是什么状态码。"""

import time
from typing import Any

from scns_conductor.client import ClientError, Problem
from scns_conductor.client.conductor import JsonClient
from scns_conductor.client.request import Request


class TellingClient(JsonClient):
    """同 JsonClient，每个请求写一行到标准错误；command 是谁在问。"""

    command = ""

    def send(self, request: Request[Any]) -> Any:
        """发一个请求，说一行。"""
        from scns_conductor.slurm.session import say

        began, how = time.perf_counter(), ""
        try:
            return super().send(request)
        except ClientError as error:
            how = f" ({error.status} {error.code})" if isinstance(error, Problem) else f" ({type(error).__name__})"
            raise
        finally:
            took_ms = (time.perf_counter() - began) * 1000
            say(self.command, f"debug:  {request.method} {self.url}{request.path}: {took_ms:.0f} ms{how}")
