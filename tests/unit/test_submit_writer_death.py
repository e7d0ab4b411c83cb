"""合批提交的后台任务意外死掉：等着的都得到一个错误，不会一直等；下一个提交照常。"""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.services.submission import SubmitQueue


class Broken(SubmitQueue):
    """头一批少还一个作业号。"""

    def __init__(self) -> None:
        super().__init__(cast(AsyncEngine, None))
        self.batches = 0

    async def _write(self, batch: Sequence[Any]) -> list[int]:
        self.batches += 1
        await asyncio.sleep(0)
        return list(range(len(batch) - (self.batches == 1)))


def test_a_writer_that_dies_leaves_nobody_waiting() -> None:
    async def story() -> None:
        queue = Broken()
        waiting = [asyncio.create_task(queue.submit({})) for _ in range(4)]
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(answer, RuntimeError) or answer in range(3) for answer in answers), answers
        assert any(isinstance(answer, RuntimeError) for answer in answers), answers
        assert await queue.submit({}) == 0

    asyncio.run(story())


def test_closing_after_a_death_does_not_raise() -> None:
    async def story() -> None:
        queue = Broken()
        with pytest.raises(RuntimeError):
            await queue.submit({})
        await queue.close()

    asyncio.run(story())
