"""一张只增的表顺着读：读到哪个号为止，不会有更小的号后来才提交。

号是先拿的，提交有先有后：只看最大的号就往前走，晚提交的就漏了。写的一方先锁表（RowExclusive）再拿号，
所以先看号发到哪里，再看此刻谁在写：这些事务都完了，那个号以下的就都看得到了（CREATE INDEX CONCURRENTLY 也这样等）。
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.statements.webhook_deliveries import WRITERS


class EventTail:
    """一张表。"""

    def __init__(self, table_name: str, reached: sa.TextClause) -> None:
        self._table_name = table_name
        self._reached = reached
        self._wanted = 0
        self._writers: set[str] = set()
        self._settled = 0

    def settled(self, connection: Connection) -> int:
        """到这个号为止（连同它）的都看得到了；调用之后的语句才算。"""
        if not self._writers:
            self._wanted = int(connection.execute(self._reached).scalar_one())
            if self._wanted == self._settled:
                return self._settled
            self._writers = self._writing(connection)
        else:
            self._writers &= self._writing(connection)
        if not self._writers:
            self._settled = self._wanted
        return self._settled

    @property
    def waiting(self) -> bool:
        """还有没有完的事务要等。"""
        return bool(self._writers)

    def _writing(self, connection: Connection) -> set[str]:
        return set(connection.execute(WRITERS, {"table_name": self._table_name}).scalars())
