"""健康检查里 valkey 那一项：连得上吗，口令与权限够吗，会不会自己丢消息，还有多少条没有人取。

权限是真的试：每个要用的命令放进 MULTI，再 DISCARD——放进去时就查权限，却什么也没有做。
"""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from scns_conductor.core.answers.health import ValkeyHealth
from scns_conductor.core.settings import Settings
from scns_conductor.core.valkey import (
    BACKGROUND,
    LEAST_ACL,
    WEBHOOKS,
    is_permission,
    own_name,
    queue_name,
    valkey_trouble,
)

# 全部问完至多这么久（秒）：就绪检查不等挂住的 Valkey。
ANSWER_S = 1.0
# 用到 maxmemory 的这么多就是快满了。
NEARLY_FULL = 0.9
_QUEUE = "rq:queue:"
_PROBE = "scns-health"
# 送与取消息要的命令；键的名字只为查权限。
_BUS: tuple[tuple[str, ...], ...] = (
    ("SADD", "rq:queues", _PROBE),
    ("SREM", "rq:queues", _PROBE),
    ("HSET", f"rq:job:{_PROBE}", "status", "queued"),
    ("HGETALL", f"rq:job:{_PROBE}"),
    ("EXPIRE", f"rq:job:{_PROBE}", "1"),
    ("RPUSH", f"{_QUEUE}{_PROBE}", _PROBE),
    ("BLPOP", f"{_QUEUE}{_PROBE}", "1"),
    ("LMOVE", f"{_QUEUE}{_PROBE}", f"{_QUEUE}{_PROBE}:intermediate", "LEFT", "RIGHT"),
    ("BLMOVE", f"{_QUEUE}{_PROBE}", f"{_QUEUE}{_PROBE}:intermediate", "LEFT", "RIGHT", "1"),
    ("DEL", f"rq:job:{_PROBE}"),
)
# 各 API 进程合用的限速与登录的账（shared_ledger）要的。
_LEDGER: tuple[tuple[str, ...], ...] = (
    ("SCRIPT", "LOAD", "return 0"),
    ("EVALSHA", "0" * 40, "1", f"scns:limits:{_PROBE}"),
    ("TIME",),
    ("GET", f"scns:limits:{_PROBE}"),
    ("SET", f"scns:limits:{_PROBE}", "0"),
    ("HGET", f"scns:limits:{_PROBE}", "until"),
    ("HSET", f"scns:limits:{_PROBE}", "until", "0"),
    ("HINCRBY", f"scns:limits:{_PROBE}", "failures", "1"),
    ("EXPIRE", f"scns:limits:{_PROBE}", "1"),
    ("DEL", f"scns:limits:{_PROBE}"),
)


async def valkey_health(settings: Settings, incarnation: str | None, node_names: Sequence[str]) -> ValkeyHealth:
    """incarnation 是数据库的化身，node_names 是各节点；Valkey 怎样都不抛。"""
    names = [queue_name(name) for name in node_names]
    if incarnation is not None:
        names += [own_name(queue_name(name), incarnation) for name in (BACKGROUND, WEBHOOKS)]
    # 头一次载入要几百毫秒：在别的线程里，也不算在等的时间里。
    library: Any = await asyncio.to_thread(importlib.import_module, "redis.asyncio")
    try:
        async with asyncio.timeout(ANSWER_S), _connection(library, settings) as ask:
            queues = [("LLEN", f"{_QUEUE}{name}") for name in (_PROBE, *names)]
            *counts, info, multi = await ask([*queues, ("INFO",), ("MULTI",)])
            # 没有进 MULTI 的话，这些就真的做了。
            tried = [] if isinstance(multi, Exception) else await ask([*_BUS, *_LEDGER, ("DISCARD",)])
    except TimeoutError:
        return _unavailable(settings, f"Valkey {ANSWER_S:g} 秒没有回答；请看它是否停住了")
    except (OSError, library.RedisError) as error:
        return _unavailable(settings, valkey_trouble(error))
    if isinstance(counts[0], Exception):
        return _unavailable(settings, valkey_trouble(counts[0]))
    for_bus, for_ledger = tried[: len(_BUS)], tried[len(_BUS) : -1]
    refused = [answer for answer in for_bus if isinstance(answer, Exception)]
    other = next((answer for answer in refused if not is_permission(answer)), None)
    if other is not None:
        return _unavailable(settings, valkey_trouble(other))
    if refused:
        return _unavailable(settings, f"Valkey 的用户{_lacking(_BUS, for_bus, 'rq:*')}")
    facts = {} if isinstance(info, Exception) else _facts(info)
    shortfalls = _shortfalls(facts)
    if isinstance(multi, Exception):
        shortfalls.append(f"{valkey_trouble(multi)}；别的权限因此看不出")
    if any(isinstance(answer, Exception) for answer in for_ledger):
        shortfalls.append(f"各个 API 的限速与登录的账合不起来：{_lacking(_LEDGER, for_ledger, 'scns:limits:*')}")
    return {
        "status": "degraded" if shortfalls else "ok",
        # 没有 INFO 的权限就看不见。
        "version": facts.get("redis_version"),
        "eviction_policy": facts.get("maxmemory_policy"),
        "waiting": sum(count for count in counts if isinstance(count, int)),
        "shortfalls": shortfalls,
    }


def _unavailable(settings: Settings, why: str) -> ValkeyHealth:
    return {
        "status": "unavailable",
        "version": None,
        "eviction_policy": None,
        "waiting": None,
        "shortfalls": [],
        "remedy": f"{why}。作业照样启动与取消，至多慢 {settings.reconcile_interval_s:g} 秒；"
        "作业步（srun）、经节点读的输出、邮件、webhook 等它回来",
    }


def _lacking(commands: Sequence[Sequence[str]], answers: Sequence[Any], keys: str) -> str:
    """缺哪些命令的权限，怎样给。"""
    refused = [
        command[0].lower() for command, answer in zip(commands, answers, strict=True) if isinstance(answer, Exception)
    ]
    return f"缺少权限：键 {keys} 上的 {'、'.join(refused)}；请给它 ACL SETUSER 用户 {LEAST_ACL}"


def _facts(info: bytes) -> dict[str, str]:
    """INFO 的回答。"""
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _shortfalls(facts: Mapping[str, str]) -> list[str]:
    most, used = int(facts.get("maxmemory", "0")), int(facts.get("used_memory", "0"))
    policy = facts.get("maxmemory_policy", "noeviction")
    found = []
    if most and policy != "noeviction":
        found.append(
            f"maxmemory-policy = {policy}：内存满了就丢掉没有取走的消息；"
            "请执行 CONFIG SET maxmemory-policy noeviction，并写进它的配置"
        )
    if most and used > NEARLY_FULL * most:
        found.append(f"maxmemory = {most} 字节，用了 {used / most:.0%}：满了就不收消息；请改大它")
    return found


@contextlib.asynccontextmanager
async def _connection(library: Any, settings: Settings) -> AsyncIterator[Callable[..., Awaitable[list[Any]]]]:
    """给出的函数一次往返问几个命令，返回各自的回答；被拒绝的是它的 ResponseError。"""
    retry = importlib.import_module("redis.asyncio.retry").Retry
    no_backoff = importlib.import_module("redis.backoff").NoBackoff
    pool = library.ConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        protocol=2,
        retry=retry(no_backoff(), 0),
        socket_connect_timeout=ANSWER_S,
        socket_timeout=ANSWER_S,
    )
    connection = pool.make_connection()

    async def ask(commands: Sequence[Sequence[str]]) -> list[Any]:
        await connection.send_packed_command(connection.pack_commands(commands))
        found: list[Any] = []
        for _ in commands:
            try:
                found.append(await connection.read_response())
            except library.ResponseError as error:
                found.append(error)
        return found

    try:
        await connection.connect()
        yield ask
    finally:
        await connection.disconnect(nowait=True)
