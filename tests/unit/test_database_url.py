"""一个数据库地址给两个驱动：几台主机、TLS 的选项，写错了说得出。"""

import inspect

import pytest
from asyncpg.connect_utils import _parse_connect_arguments
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from scns_conductor.core.async_database import asyncpg_url
from scns_conductor.core.database import database_url
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.settings import Settings


def settings(url: str) -> Settings:
    return Settings(database_url=SecretStr(url))


def asyncpg_sees(url: str) -> tuple[object, object]:
    """asyncpg 自己怎样理解：（主机与端口，其余）。"""
    arguments: dict[str, object] = dict.fromkeys(inspect.signature(_parse_connect_arguments).parameters)
    arguments |= {"statement_cache_size": 0, "max_cached_statement_lifetime": 0, "max_cacheable_statement_size": 0}
    arguments["dsn"] = asyncpg_url(settings(url))
    addresses, parameters, *_ = _parse_connect_arguments(**arguments)
    return addresses, parameters


def test_several_hosts_and_tls_in_one_url() -> None:
    url = (
        "postgresql://u:p%40ss@h1:5432,h2:5433/db"
        "?target_session_attrs=read-write&sslmode=require&keepalives=1&connect_timeout=3"
    )
    libpq = conninfo_to_dict(database_url(settings(url)))
    assert (libpq["host"], libpq["port"], libpq["password"]) == ("h1,h2", "5432,5433", "p@ss")
    addresses, parameters = asyncpg_sees(url)
    assert addresses == [("h1", 5432), ("h2", 5433)]
    assert (parameters.user, parameters.password, parameters.database) == ("u", "p@ss", "db")  # type: ignore[attr-defined]
    assert parameters.target_session_attrs.value == "read-write"  # type: ignore[attr-defined]
    assert parameters.sslmode.name == "require"  # type: ignore[attr-defined]
    # libpq 才有的选项不当成服务器的设置发出去。
    assert not parameters.server_settings  # type: ignore[attr-defined]


def test_a_socket_and_the_sqlalchemy_form() -> None:
    url = "postgresql+psycopg://scns@/scns?host=/run/postgresql&port=5433"
    assert conninfo_to_dict(database_url(settings(url))) == {
        "user": "scns",
        "dbname": "scns",
        "host": "/run/postgresql",
        "port": "5433",
    }
    assert asyncpg_sees(url)[0] == ["/run/postgresql/.s.PGSQL.5433"]


@pytest.mark.parametrize(
    "url", ["mysql://h/db", "postgresql://h/db?sslmod=require", "postgresql://[h/db", "scns", "host=h dbname=db", ""]
)
def test_a_wrong_url_is_one_sentence(url: str) -> None:
    with pytest.raises(SettingsError, match="SCNS_DATABASE_URL"):
        database_url(settings(url))
    with pytest.raises(SettingsError):
        asyncpg_url(settings(url))
