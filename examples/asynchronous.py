#!/usr/bin/env python3
"""异步：同时等几件事，取消一个不影响别的。"""

import asyncio

from scns_conductor.client import AsyncClient


async def one(client: AsyncClient, number: int) -> str:
    job_id = await client.submit({"name": "async"}, f"echo 第 {number} 个\n")
    await client.wait(job_id, timeout_s=120)
    return (await client.output(job_id)).decode().strip()


async def main() -> None:
    async with AsyncClient() as client:
        print(*await asyncio.gather(*(one(client, number) for number in range(4))))


asyncio.run(main())
