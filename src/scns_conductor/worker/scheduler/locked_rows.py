"""调度器绕开的行：别的会话锁着的作业与节点。别的照常调度，锁放开了就接着排；是谁锁着，日志与健康检查里都说。

平时什么也不查：等锁等到 LOCK_WAIT_S 才来看是哪些行，记下来，之后每秒看一次放开了没有。
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.answers.health import Block
from scns_conductor.statements.blockers import lockers, table_lockers
from scns_conductor.statements.row_locks import (
    LOCKED_ROWS,
    ROWS_WHERE,
    STUCK_INBOX,
    VERSION_LOCKED,
    session_bounds,
)

# 调度周期里的语句至多等一个锁这么久（秒）。别的进程正常的提交只要几毫秒。
LOCK_WAIT_S = 0.5
# 一条语句至多做这么久（秒）：一批装载也只有两千行。
STATEMENT_S = 60.0
# 一次至多看这么多行。
MOST_LOOKED = 10_000
# 收件箱里的行这么久（秒）还没有取走，是被锁着。
STUCK_INBOX_S = 5.0
# 改预留的事务至多这么久（秒，闲着的五秒就断开）；预留的版本被锁得更久的，是不相干的会话，启动不再核对它。
RESERVING_S = 10.0
# 健康检查里一项至多列这么多行。
MOST_TOLD = 10
# (表, 会话) -> 它锁着的。
_Blocks = dict[tuple[str, int], Block]

logger = logging.getLogger(__name__)


def bound_session(connection: Connection) -> None:
    """这条会话的语句都有时限；别的设置（连上时设的）不变。"""
    with connection.begin():
        for statement in session_bounds(lock_s=LOCK_WAIT_S, statement_s=STATEMENT_S):
            connection.execute(statement)


@dataclass(slots=True)
class Changed:
    """看过一遍，与上次不同的：新锁住的与放开了的。"""

    job_ids: set[int] = field(default_factory=set)
    node_names: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.job_ids or self.node_names)


@dataclass(slots=True)
class LockedRows:
    """jobs 与 nodes：绕开的作业号、节点名 -> 说明。blocked 是给健康检查看的。"""

    jobs: dict[int, str] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    blocked: list[Block] = field(default_factory=list)
    _tables: _Blocks = field(default_factory=dict)
    _rows: _Blocks = field(default_factory=dict)
    # 从何时起看到预留的版本被锁着（开机以来的秒数）。
    _version_since: float | None = None
    # 节点 -> 最近一次看到它被锁着（开机以来的秒数）。
    _node_seen: dict[str, float] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """有绕开的，或有等着的表。"""
        return bool(self.jobs or self.nodes or self.blocked)

    def clear(self) -> None:
        """重新上任：从头来。"""
        for each in (self.jobs, self.nodes, self._tables, self._rows):
            each.clear()
        self._version_since = None
        self._tell()

    @property
    def version_stuck(self) -> bool:
        """预留的版本一直被不相干的会话锁着。"""
        return self._version_since is not None and time.monotonic() - self._version_since > RESERVING_S

    def look(self, connection: Connection, job_ids: Iterable[int] = (), node_names: Iterable[str] = ()) -> Changed:
        """看这些行与已经绕开的行，此刻谁锁着；返回变了的。在调用者的事务里执行。"""
        asked_jobs = sorted({*islice(self.jobs, MOST_LOOKED), *job_ids})
        asked_nodes = sorted({*self.nodes, *node_names})
        found: dict[str, list[str]] = {}
        if asked_jobs or asked_nodes:
            for row in connection.execute(LOCKED_ROWS, {"job_ids": asked_jobs, "node_names": asked_nodes}).mappings():
                found.setdefault(row["table"], []).append(row["key"])
        stuck = list(connection.scalars(STUCK_INBOX, {"age": STUCK_INBOX_S}))
        if stuck:
            found["scheduler_inbox"] = stuck
        if connection.execute(VERSION_LOCKED).scalar_one():
            found["reservation_version"] = [""]
            self._version_since = self._version_since or time.monotonic()
        else:
            self._version_since = None
        rows, messages = self._describe(connection, found)
        self._note(self._rows, rows)
        if self._tables:
            self.look_at_tables(connection)
        tables = ("job_steps", "resource_allocations", "jobs")
        jobs = {int(key): messages[table] for table in tables for key in found.get(table, ())}
        nodes = dict.fromkeys(found.get("nodes", ()), messages.get("nodes", ""))
        for name in nodes:
            self._node_seen[name] = time.monotonic()
        kept = {job_id: message for job_id, message in self.jobs.items() if job_id not in set(asked_jobs)}
        changed = Changed(set(self.jobs) ^ set(jobs | kept), set(self.nodes) ^ set(nodes))
        _replace(self.jobs, jobs | kept)
        _replace(self.nodes, nodes)
        return changed

    def look_at_tables(self, connection: Connection) -> None:
        """等的不是行：看谁锁着整张表。"""
        tables: _Blocks = {}
        for row in connection.execute(table_lockers()):
            for table in row.tables:
                tables[table, row.pid] = _block(table, [], row)
        self._note(self._tables, tables)

    def spared_nodes(self, within_s: float) -> list[str]:
        """行刚被锁过的节点：心跳写不进去，不能就此判它失联。"""
        now = time.monotonic()
        self._node_seen = {name: seen for name, seen in self._node_seen.items() if now - seen < within_s}
        return sorted(self._node_seen)

    @staticmethod
    def _describe(connection: Connection, found: Mapping[str, Sequence[str]]) -> tuple[_Blocks, dict[str, str]]:
        blocks: _Blocks = {}
        messages: dict[str, str] = {}
        for table, keys in found.items():
            who = connection.execute(lockers(table, ROWS_WHERE[table]), {"keys": list(keys)}).all()
            blocks |= {(table, row.pid): _block(table, keys, row) for row in who}
            named = "、".join(f"{row.application_name or '（没有名字）'}（PostgreSQL 进程 {row.pid}）" for row in who)
            messages[table] = f"{table} 的行被别的会话锁着：{named or '刚放开'}；等它提交或断开"
        return blocks, messages

    def _note(self, known: _Blocks, found: _Blocks) -> None:
        for place, block in found.items():
            if place not in known:
                logger.warning("rows_locked", extra=block)
        for place in known.keys() - found.keys():
            logger.info("rows_released", extra=known[place])
        _replace(known, found)
        self._tell()

    def _tell(self) -> None:
        self.blocked = [*self._tables.values(), *self._rows.values()]


def _block(table: str, keys: Sequence[str], row: Any) -> Block:
    return {
        "table": table,
        "rows": sorted(keys)[:MOST_TOLD],
        "count": len(keys),
        "pid": row.pid,
        "application_name": row.application_name,
        "user_name": row.user_name,
    }


def _replace(known: dict[Any, Any], found: Mapping[Any, Any]) -> None:
    known.clear()
    known.update(found)
