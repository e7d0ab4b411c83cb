"""到 REST API 的连接：全部来访者共用连接池，各用各的令牌。"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from scns_conductor.client.problem import Problem, Unreachable

# 连接 API、等它开始回答的时限（秒）；边写边读的输出可以很久没有字。
CONNECT_S = 5.0
ANSWER_S = 30.0
# 轮询的问题都小，久不回答就是 API 不在。
POLL_S = 12.0


class Upstream:
    """API；url 是它的地址。"""

    def __init__(self, url: str) -> None:
        self.url = url
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=32, keepalive_expiry=30)
        self._client = httpx.AsyncClient(
            base_url=url, timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S), limits=limits, trust_env=False
        )

    async def close(self) -> None:
        """关掉全部连接。"""
        await self._client.aclose()

    async def get(self, target: str, token: str, language: str = "zh") -> bytes:
        """GET 的正文；拒绝抛 Problem，连不上抛 Unreachable。target 是路径与查询串，language 是说明用的语言。"""
        try:
            # 从头到尾一共这么久：问的路径是浏览器给的，一个不完的回答不能占住轮询者。
            async with asyncio.timeout(POLL_S):
                answer = await self._client.get(
                    target, headers={**_authorized(token), "Accept-Language": language}, timeout=POLL_S
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unreachable(f"连不上 API（{type(error).__name__}）") from error
        if answer.status_code >= 400:
            raise _problem(answer)
        return answer.content

    async def get_json(self, target: str, token: str, language: str = "zh") -> dict[str, Any]:
        """GET 的回答；拒绝抛 Problem，连不上抛 Unreachable。"""
        found: dict[str, Any] = json.loads(await self.get(target, token, language))
        return found

    async def post(
        self, target: str, body: Any, *, token: str = "", address: str = "", language: str = "zh"
    ) -> dict[str, Any]:
        """POST 的回答；token 为空是没有登录的人，address 是他的地址。拒绝抛 Problem，连不上抛 Unreachable。"""
        headers = {**_authorized(token), "Accept-Language": language}
        if address:
            headers["X-Forwarded-For"] = address
        try:
            answer = await self._client.post(target, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"连不上 API（{type(error).__name__}）") from error
        if answer.status_code >= 400:
            raise _problem(answer)
        found: dict[str, Any] = answer.json()
        return found

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        token: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        endless: bool = False,
    ) -> AsyncIterator[httpx.Response]:
        """发一个请求，正文逐段地收；状态码由用的人看。连不上、断在一半抛 Unreachable。endless 时两段之间可以等很久。"""
        timeout = httpx.Timeout(None if endless else ANSWER_S, connect=CONNECT_S)
        request = self._client.build_request(
            method, target, headers={**_authorized(token), **(headers or {})}, content=body, timeout=timeout
        )
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise Unreachable(f"连不上 API（{type(error).__name__}）") from error
        try:
            yield answer
        except httpx.HTTPError as error:
            raise Unreachable(f"与 API 的连接断了（{type(error).__name__}）") from error
        finally:
            await answer.aclose()


def _authorized(token: str) -> dict[str, str]:
    """token 为空是没有登录的人。"""
    return {"X-SCNS-Source": "WEB"} | ({"Authorization": f"Bearer {token}"} if token else {})


def _problem(answer: httpx.Response) -> Problem:
    return Problem.from_answer(
        answer.status_code, answer.reason_phrase, answer.content, answer.headers.get("Retry-After")
    )
