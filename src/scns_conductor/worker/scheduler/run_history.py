"""各用户做完的作业跑了多久，从数据库读；同名的算像（见 scheduling/run_times）。"""

from collections.abc import Collection

from sqlalchemy.engine import Connection

from scns_conductor.scheduling.run_times import RunTimes
from scns_conductor.statements.explanations import RECENT_RUN_TIMES, USERS_WAITING


class RunHistory:
    """读过的用户记着，到 forget 为止：一个做完的作业不值得马上再读一遍。"""

    def __init__(self) -> None:
        self._times = RunTimes()
        self._users: set[str] = set()

    def forget(self) -> None:
        """都忘掉。"""
        self._times, self._users = RunTimes(), set()

    def read(self, connection: Connection, users: Collection[str]) -> None:
        """读没有读过的用户，一条语句。"""
        unknown = set(users) - self._users
        if not unknown:
            return
        self._users |= unknown
        for row in connection.execute(RECENT_RUN_TIMES, {"user_names": sorted(unknown)}):
            self._times.learn(row.user_name, row.name, row.run_s)

    def read_waiting(self, connection: Connection) -> None:
        """重读有作业在排队的用户。"""
        self.forget()
        self.read(connection, set(connection.scalars(USERS_WAITING)))

    def mean(self, user: str, name: str) -> float | None:
        """多半跑多少秒；没有历史是 None。"""
        return self._times.mean(user, name)

    def predict(self, user: str, name: str, limit_s: float) -> float:
        """多半跑多少秒，取到档，不超过时限。"""
        return self._times.predict(user, name, limit_s)
