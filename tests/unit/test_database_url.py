"""一个数据库地址给两个驱动：几台主机、TLS 的选项，写错了说得出。"""

import inspect
from pathlib import Path
from typing import Any

import pytest
from asyncpg.connect_utils import _parse_connect_arguments
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from scns_conductor.core.async_database import asyncpg_url
from scns_conductor.core.database import HostOrder, connection_words, database_url, each_host
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.settings import Settings


def settings(url: str) -> Settings:
    return Settings(database_url=SecretStr(url))


def asyncpg_sees(url: str) -> tuple[list[object], Any]:
    """asyncpg 自己怎样理解：（依次试的主机与端口，其余）。"""
    arguments: dict[str, object] = dict.fromkeys(inspect.signature(_parse_connect_arguments).parameters)
    arguments |= {"statement_cache_size": 0, "max_cached_statement_lifetime": 0, "max_cacheable_statement_size": 0}
    words = connection_words(settings(url))
    seen = [
        _parse_connect_arguments(**{**arguments, "dsn": asyncpg_url({**words, **host})}) for host in each_host(words)
    ]
    return [address for addresses, *_ in seen for address in addresses], seen[0][1]


def test_several_hosts_and_tls_in_one_url() -> None:
    url = (
        "postgresql://u:p%40ss@h1:5432,h2:5433/db"
        "?target_session_attrs=read-write&sslmode=require&keepalives=1&connect_timeout=3"
    )
    libpq = conninfo_to_dict(database_url(settings(url)))
    assert (libpq["host"], libpq["port"], libpq["password"]) == ("h1,h2", "5432,5433", "p@ss")
    addresses, parameters = asyncpg_sees(url)
    assert addresses == [("h1", 5432), ("h2", 5433)]
    assert (parameters.user, parameters.password, parameters.database) == ("u", "p@ss", "db")
    assert parameters.target_session_attrs.value == "read-write"
    assert parameters.sslmode.name == "require"
    # libpq 才有的选项不当成服务器的设置发出去。
    assert not parameters.server_settings


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
    "url",
    [
        "mysql://h/db",
        "postgresql://h/db?sslmod=require",
        "postgresql:///db?host=a,b,c&port=1,2",
        "postgresql://h/db?sslmode=verify_full",
        "postgresql://[h/db",
        "scns",
        "host=h dbname=db",
        "",
    ],
)
def test_a_wrong_url_is_one_sentence(url: str) -> None:
    with pytest.raises(SettingsError, match="SCNS_DATABASE_URL"):
        database_url(settings(url))
    with pytest.raises(SettingsError):
        connection_words(settings(url))


def test_a_plus_sign_is_itself() -> None:
    """libpq 的写法里只有 %XX，加号不是空格；两个驱动读到的要一样。"""
    url = "postgresql:///db?host=h&user=u&password=a+b%2Bc%20d%26"
    assert connection_words(settings(url))["password"] == "a+b+c d&"
    assert asyncpg_sees(url)[1].password == "a+b+c d&"


def test_the_authorities_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sslrootcert=system（托管的数据库教人这样写）：两个驱动都用本机的根证书，名字也核对。"""
    roots = tmp_path / "roots.pem"
    roots.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    words = connection_words(settings("postgresql://h/db?sslrootcert=system"))
    assert (words["sslrootcert"], words["sslmode"]) == (str(roots), "verify-full")


def test_a_service_is_read_by_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "services").write_text("[lab]\nhost=db1\nport=5433\nuser=u\ndbname=d\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    addresses, parameters = asyncpg_sees("postgresql:///?service=lab")
    assert (addresses, parameters.user, parameters.database) == ([("db1", 5433)], "u", "d")


def test_the_host_that_answered_comes_first_and_the_silent_one_last() -> None:
    order = HostOrder(connection_words(settings("postgresql://h1,h2:5433,h3/db")))
    first, second, third = order
    order.prefer(second)
    assert list(order) == [second, first, third]
    order.postpone(second)
    assert list(order) == [first, third, second]
    # 不在没有声音的那台上多等；全都没有声音，也许只是慢，才等足。一台的没有下一台可换。
    assert order.timeout_s == 2
    order.postpone(first)
    order.postpone(third)
    assert order.timeout_s == 5
    order.prefer(first)
    assert order.timeout_s == 2
    assert HostOrder(connection_words(settings("postgresql://h1/db"))).timeout_s == 5
    # 一个端口给全部主机；没有写主机的也是一项。
    assert each_host({"host": "h1,h2", "port": "5433"}) == [
        {"host": "h1", "port": "5433"},
        {"host": "h2", "port": "5433"},
    ]
    assert each_host({"dbname": "db"}) == [{}]
