"""看板问的 API 换成一个说定了怎样答的真的 HTTP 服务器。"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from scns_conductor.web.upstream import Upstream


@contextlib.asynccontextmanager
async def upstream_to(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Upstream]:
    """连到它的 Upstream；serve 办一条连接。"""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    found = Upstream(f"http://{host}:{port}")
    try:
        yield found
    finally:
        await found.close()
        server.close()
