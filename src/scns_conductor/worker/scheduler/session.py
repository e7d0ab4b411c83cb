"""领导者的会话：SQLAlchemy 之下的驱动，与不开事务的一段。"""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from sqlalchemy.engine import Connection


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


def driver_of(connection: Connection) -> "psycopg.Connection[Any]":
    """psycopg 的会话。"""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
