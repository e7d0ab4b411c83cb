"""「假如」：拿集群自己的历史，换节点、上限、策略再演一遍。

计算在另一个进程里（cli/what_if.py，和 scns simulate --live 是同一套），它用提问者自己的令牌经 API 取数；
这里管它的多少、多久、多大：一个用户同时一个，一个 API 进程同时几个由设置定，到时限就停，提问的走了也停。
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from scns_conductor.core.errors import ConductorError, Conflict, InvalidRequest, ServiceUnavailable
from scns_conductor.core.hostlist import expand
from scns_conductor.core.replay_words import parse_nodes, parse_policy_words, parse_span

# 单独的进程；名字写在这里，不导入它（API 不碰命令与模拟器）。
MODULE = "scns_conductor.cli.what_if"
TIME_LIMIT_S = 120.0
MEMORY_BYTES = 1024**3
MOST_JOBS = 20_000
MOST_POLICIES = 4
# 一行回答的上限（字节）：结果里的曲线有几个策略乘几百个点。
LONGEST_LINE = 4 * 1024**2
# 子进程的环境只留这些：没有数据库的地址与口令。
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "HOME", "TZ")


@dataclass(frozen=True, slots=True)
class Question:
    """要演什么；各项的写法同 scns simulate --live，since 是 ISO 8601。"""

    since: str
    policy: str
    add_nodes: list[str]
    remove_nodes: str | None
    cap_time_limit: str | None
    scale_load: float | None
    user_jobs: int | None
    user_cpus: int | None


@dataclass(frozen=True, slots=True)
class Asker:
    """谁问的：url 与 token 是子进程取数用的；language 是说明用的语言。"""

    user_name: str
    url: str
    token: str
    language: str


Event = tuple[str, dict[str, Any]]


class Simulations:
    """一个 API 进程的全部「假如」。"""

    def __init__(self, most_at_once: int, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._most = most_at_once
        self._time_limit_s = time_limit_s
        self._running: dict[str, _Run] = {}

    async def run(self, asker: Asker, question: Question) -> AsyncGenerator[Event, None]:
        """逐个交出事件：accepted、progress……最后是 result 或 failed。

        一个人同时一个：又问一个，先前的就停下（simulation_replaced）。第一个事件之前就知道的错抛出：
        写法不对 InvalidRequest，关掉了 Conflict，满了 ServiceUnavailable。不再迭代（aclose）就停下计算。
        """
        _check(question)
        run, earlier = _Run(), self._running.get(asker.user_name)
        if self._most == 0:
            raise Conflict("管理员关掉了「假如」（simulations_at_once 是 0）", code="simulations_off")
        if earlier is None and len(self._running) >= self._most:
            raise ServiceUnavailable("别人的「假如」还在算；请稍后再试", code="simulations_busy", retry_after_s=10)
        if earlier is not None:
            earlier.replace()
        self._running[asker.user_name] = run
        try:
            async with _child(asker, question) as run.child, asyncio.timeout(self._time_limit_s):
                yield "accepted", {}
                async for event in _events(run):
                    yield event
        except TimeoutError:
            yield (
                "failed",
                _failure(
                    "simulation_timeout", f"算了 {self._time_limit_s:g} 秒还没有算完；请把时间取短些，或少比几个策略"
                ),
            )
        finally:
            if self._running.get(asker.user_name) is run:
                del self._running[asker.user_name]


def _check(question: Question) -> None:
    """各项的写法；不对抛 InvalidRequest。起子进程之前就看：写错的立即知道。"""
    field = "policy"
    try:
        if len(parse_policy_words(question.policy)) > MOST_POLICIES:
            raise ValueError(f"至多同时比较 {MOST_POLICIES} 个策略")
        field = "add_nodes"
        for text in question.add_nodes:
            parse_nodes(text)
        field = "remove_nodes"
        expand(question.remove_nodes or "")
        field = "cap_time_limit"
        if question.cap_time_limit:
            parse_span(question.cap_time_limit)
    except ValueError as error:
        raise InvalidRequest(field, str(error)) from error


@dataclass
class _Run:
    """正在算的一个；child 还没有起来时是 None。"""

    child: asyncio.subprocess.Process | None = None
    replaced: bool = False

    def replace(self) -> None:
        """同一个人又问了一个。"""
        self.replaced = True
        if self.child is not None and self.child.returncode is None:
            self.child.kill()


@contextlib.asynccontextmanager
async def _child(asker: Asker, question: Question) -> AsyncIterator[asyncio.subprocess.Process]:
    """已经收到问题的子进程；离开时一定没有了。"""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    # 一个核就够；线程池的栈与缓冲会算进内存的上限。
    environment |= {"SCNS_LANG": asker.language, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
        env=environment,
        start_new_session=True,
    )
    try:
        bounds = {"most_jobs": MOST_JOBS, "memory_bytes": MEMORY_BYTES}
        asked = asdict(question) | {"url": asker.url, "token": asker.token} | bounds
        assert child.stdin is not None
        # 写完不关：它看见关了就知道这里不在了。
        child.stdin.write(json.dumps(asked).encode() + b"\n")
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _events(run: _Run) -> AsyncIterator[Event]:
    assert run.child is not None
    assert run.child.stdout is not None
    if run.replaced:
        run.replace()
    async for line in run.child.stdout:
        said = json.loads(line)
        name, data = said["event"], said["data"]
        if name == "refused":
            raise InvalidRequest(data["field"], data["message"])
        yield name, data
        if name in ("result", "failed"):
            return
    if run.replaced:
        yield "failed", _failure("simulation_replaced", "你又开始了一个「假如」，这一个停下了")
    else:
        yield "failed", _failure("simulation_died", "计算的进程没有了（多半是内存不够）；请把时间取短些")


def _failure(code: str, detail: str) -> dict[str, Any]:
    return {"code": code, "detail": detail}


def error_event(error: ConductorError) -> Event:
    """已经开始回答之后出的错。"""
    return "failed", {**_failure(error.code, error.detail), "errors": [each._asdict() for each in error.errors]}
