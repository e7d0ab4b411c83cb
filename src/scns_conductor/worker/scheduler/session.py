"""领导者的会话：不开事务的一段。"""

import contextlib
from collections.abc import Iterator

from sqlalchemy.engine import Connection

from scns_conductor.core.database import driver_of


@contextlib.contextmanager
def one_by_one(connection: Connection) -> Iterator[None]:
    """里面的语句各自成一个事务，省去 BEGIN 与 COMMIT 的往返；只能在事务之外进出。"""
    driver = driver_of(connection)
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = False
