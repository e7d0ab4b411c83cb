"""缓存一小会儿的：过了期一起来要的只读一次；改过之后读到的不会是改之前的。"""

import asyncio

import pytest

from scns_conductor.services.refreshed import Refreshed


class Source:
    """每读一次是下一个数；gate 关着时读到一半等着。"""

    def __init__(self) -> None:
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False

    async def read(self) -> int:
        self.reads += 1
        number = self.reads
        await self.gate.wait()
        if self.failing:
            raise OSError("读不了")
        return number


async def _settled() -> None:
    """已经能走的都走完。"""
    for _ in range(10):
        await asyncio.sleep(0)


async def _together() -> None:
    source = Source()
    kept = Refreshed(source.read, 0)
    assert await asyncio.gather(*(kept.get() for _ in range(100))) == [1] * 100
    assert (await kept.get(), source.reads) == (1, 1)
    assert await asyncio.gather(*(kept.get(fresh=True) for _ in range(100))) == [2] * 100


async def _old() -> None:
    source = Source()
    kept = Refreshed(source.read, 0, fresh_s=0.0)
    assert [await kept.get(), await kept.get()] == [1, 2]


async def _changed_while_reading() -> None:
    source = Source()
    kept = Refreshed(source.read, 0)
    source.gate.clear()
    before = asyncio.create_task(kept.get())
    await _settled()
    # 第一次正读到一半：这时改了。
    kept.forget()
    after, newest = asyncio.create_task(kept.get()), asyncio.create_task(kept.get(fresh=True))
    await _settled()
    source.gate.set()
    assert await before == 1
    assert (await after, await newest) == (2, 2)


async def _unreadable() -> None:
    source = Source()
    kept = Refreshed(source.read, 0)
    source.failing = True
    found = await asyncio.gather(*(kept.get() for _ in range(10)), return_exceptions=True)
    assert [str(each) for each in found] == ["读不了"] * 10
    assert source.reads == 1
    source.failing = False
    assert await kept.get() == 2


async def _given_up() -> None:
    source = Source()
    kept = Refreshed(source.read, 0)
    source.gate.clear()
    gone, staying = asyncio.create_task(kept.get()), asyncio.create_task(kept.get())
    await _settled()
    gone.cancel()
    await _settled()
    source.gate.set()
    assert await staying == 1
    assert gone.cancelled()


@pytest.mark.parametrize("case", [_together, _old, _changed_while_reading, _unreadable, _given_up])
def test_read(case) -> None:  # type: ignore[no-untyped-def]
    asyncio.run(case())
