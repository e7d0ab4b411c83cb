"""绕开被别的会话锁着的行：等锁等到头的写放下，行记进 LockedRows，记忆里当作不可用。"""

from collections.abc import Callable, Collection
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.statements.row_locks import gave_up_waiting
from scns_conductor.worker.scheduler.state import REST_S, SchedulerState

_Value = TypeVar("_Value")


class Detour:
    """看哪些行锁着、放开了没有；把一次写放在它后面。"""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def look(self, connection: Connection, job_ids: Collection[int] = (), node_names: Collection[str] = ()) -> bool:
        """这些与已经绕开的行，此刻锁着没有；返回有没有变化。"""
        with connection.begin():
            changed = self._state.locked.look(connection, job_ids, node_names)
        if not changed:
            return False
        self._state.planner.forget()
        with connection.begin():
            if changed.node_names:
                self._state.memory.load_nodes(connection, sorted(changed.node_names))
            self._state.memory.refresh(connection, changed.job_ids, self._state.clock.now())
        return True

    def around(
        self, connection: Connection, job_ids: Collection[int], write: Callable[[], _Value], nodes: Collection[str] = ()
    ) -> _Value | None:
        """做一次写；等锁等到头的，把锁着的行绕开，返回 None：调用者下一遍再来。"""
        try:
            return write()
        except sa.exc.DBAPIError as error:
            if not gave_up_waiting(error):
                raise
            if not self.look(connection, job_ids, nodes):
                with connection.begin():
                    self._state.locked.look_at_tables(connection)
                self._state.stopping.wait(REST_S)
            return None
