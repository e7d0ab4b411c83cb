"""三种机器各要哪些步：API 的、节点的、两样都是的。"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import redis
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from scns_conductor.client.endpoint import LOCAL_SOCKET
from scns_conductor.client.problem import ClientError
from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError, SettingsError, first_line
from scns_conductor.core.listener import bound_listener
from scns_conductor.core.settings import settings_with
from scns_conductor.core.signing_keys import ensure_key
from scns_conductor.local.own_api import readiness
from scns_conductor.local.setup.engines import (
    DATABASE,
    REDIS_REMEDY,
    checked_network,
    local_cluster,
    new_password,
    open_postgres,
    open_redis,
    postgres_steps,
    redis_settings_file,
)
from scns_conductor.local.setup.machine import (
    HOME,
    SERVICE_USER,
    SETTINGS_DIR,
    UNIT_DIR,
    directory,
    has_systemd,
    installed_file,
    require_root,
    run,
    service_user,
    started_unit,
)
from scns_conductor.local.setup.settings_file import SETTINGS_FILE, client_step, read_settings, settings_step
from scns_conductor.local.setup.steps import SetupFailed, Step
from scns_conductor.slurm.entry import COMMANDS
from scns_conductor.slurm.install import install, is_installed, is_own
from scns_conductor.statements.server_facts import SERVER_FACTS

API_PORT = 6820
# 端口上的 API 至多等它答这么久。
API_WAIT_S = 10.0
SPOOL = Path("/var/spool/scns-conductor")
PROGRAM_LINK = Path("/usr/local/bin/scns")
DEFAULT_CLUSTER = "scns"
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """命令行要的。address 是别的机器用来找到这台的名字或地址；allow 是放行的网段，空的只给本机用。"""

    api: bool
    worker: bool
    cluster_name: str | None = None
    address: str = ""
    allow: tuple[str, ...] = ()
    database_url: str | None = None
    redis_url: str | None = None
    start: bool = True


def steps(wanted: Wanted) -> Iterator[Step]:
    """依次要有的东西。是边做边给的：后面的步要看前面做成的样子。"""
    yield require_root()
    yield service_user()
    yield directory(SETTINGS_DIR, 0o755, "root")
    if wanted.api:
        yield from _api_steps(wanted)
    else:
        yield from _joining_steps()
    settings = read_settings()
    api_url = str(settings.get("api_url") or _api_url(wanted))
    yield client_step(api_url)
    yield _program_link()
    if not _foreign_slurm():
        yield _slurm_commands()
    yield database_answers(settings)
    yield redis_answers(str(settings.get("redis_url", "")))
    if wanted.api:
        yield _schema()
        yield _signing_key(Path(str(settings.get("jwt_key_file") or HOME / "jwt.key")))
        yield _port(settings)
    if wanted.worker:
        yield directory(SPOOL, 0o700, "root")
    yield installed_file("logrotate", Path("/etc/logrotate.d/scns-conductor"), _program())
    yield from _units(wanted)


def _api_steps(wanted: Wanted) -> Iterator[Step]:
    yield directory(HOME, 0o700, SERVICE_USER)
    if not has_systemd():
        # 有 systemd 的由单元的 RuntimeDirectory 备好。
        yield directory(Path(LOCAL_SOCKET).parent, 0o755, SERVICE_USER)
    present = read_settings()
    networks = tuple(checked_network(text) for text in wanted.allow)
    host = wanted.address or (_own_name() if networks else _LOOPBACK)
    for option, name, given in (
        ("--cluster-name", "cluster_name", wanted.cluster_name),
        ("--database-url", "database_url", wanted.database_url),
        ("--redis-url", "redis_url", wanted.redis_url),
    ):
        if given and present.get(name, given) != given:
            raise SetupFailed(f"{SETTINGS_FILE} 里已有不同的 {name}，{option} 不会改它；要换请编辑那个文件")
    # 连得上才写进设置：写错一个字不必去改文件。
    if wanted.database_url:
        yield database_answers({"database_url": wanted.database_url}, "--database-url")
    if wanted.redis_url:
        yield redis_answers(wanted.redis_url, "--redis-url")
    database_url = str(present.get("database_url") or wanted.database_url or "")
    redis_url = str(present.get("redis_url") or wanted.redis_url or "")
    cluster = None
    if not database_url or _is_own(database_url, host):
        cluster = local_cluster()
        password = urlsplit(database_url).password or new_password()
        # 不出本机的不加密：每条会话省去一次 TLS 的握手。
        plain = "?sslmode=disable" if host == _LOOPBACK else ""
        database_url = database_url or f"postgresql://{SERVICE_USER}:{password}@{host}:{cluster.port}/{DATABASE}{plain}"
        yield from postgres_steps(cluster, password)
        if networks:
            yield from open_postgres(cluster, networks)
    if not redis_url or _is_own(redis_url, host):
        settings_file = redis_settings_file()
        if settings_file is None:
            raise SetupFailed(f"本机没有 Redis 或 Valkey。{REDIS_REMEDY}")
        password = urlsplit(redis_url).password or (new_password() if networks else "")
        redis_url = redis_url or f"redis://{f':{quote(password)}@' if password else ''}{host}:6379/0"
        if networks:
            yield open_redis(settings_file, password)
    yield settings_step(
        {
            "cluster_name": wanted.cluster_name or DEFAULT_CLUSTER,
            "database_url": database_url,
            "redis_url": redis_url,
            "jwt_key_file": str(HOME / "jwt.key"),
            "api_host": "0.0.0.0" if networks else _LOOPBACK,
            "api_url": f"http://{host}:{present.get('api_port', API_PORT)}",
            "api_socket": LOCAL_SOCKET,
        },
        SERVICE_USER,
    )


def _joining_steps() -> Iterator[Step]:
    """节点：设置文件从 API 的机器抄来。"""

    def copied() -> bool:
        return {"database_url", "redis_url", "api_url"} <= read_settings().keys()

    yield Step(
        f"设置文件 {SETTINGS_FILE}",
        copied,
        remedy=f"请从 API 的机器抄来：scp API的机器:{SETTINGS_FILE} {SETTINGS_FILE}",
    )
    yield settings_step({}, SERVICE_USER)


def database_answers(settings: Mapping[str, Any], where: str = f"{SETTINGS_FILE} 的 database_url") -> Step:
    """像节点那样连得上设置里的数据库（几台主机、TLS、PgBouncer 都照设置）；where 是地址写在哪里。"""

    def answers() -> bool:
        if not settings.get("database_url"):
            raise SetupFailed(f"{SETTINGS_FILE} 里还没有 database_url")
        try:
            with _engine(settings).connect() as connection:
                connection.exec_driver_sql("SELECT 1")
        except (SQLAlchemyError, ConductorError) as error:
            why = first_line(error)
            raise SetupFailed(f"连不上数据库：{why}；请检查 {where}") from error
        return True

    return Step("数据库应答", answers)


def _engine(settings: Mapping[str, Any]) -> Engine:
    wanted = {name: str(settings[name]) for name in ("database_url", "database_direct_url") if name in settings}
    return sync_engine(settings_with(**wanted), role="setup", lookups=False, pooled=False)


def redis_answers(url: str, where: str = f"{SETTINGS_FILE} 的 redis_url") -> Step:
    """连得上设置里的 Redis 或 Valkey；where 是地址写在哪里。"""

    def answers() -> bool:
        if not url:
            raise SetupFailed(f"{SETTINGS_FILE} 里还没有 redis_url")
        try:
            with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
                client.ping()
        except (redis.RedisError, ValueError) as error:
            raise SetupFailed(f"连不上 Redis：{error}；请检查 {where}") from error
        return True

    return Step("Redis 应答", answers)


def _schema() -> Step:
    """数据库结构升级到这个版本；以 scns 的身份，新建的文件（没有）才不会属于 root。"""
    command = [*("runuser", "-u", SERVICE_USER, "--"), str(_program()), "db"]

    def current() -> bool:
        return subprocess.run([*command, "current"], capture_output=True, check=False).returncode == 0

    return Step(
        "数据库结构是这个版本的", current, lambda: run([*command, "upgrade"]), (f"{' '.join(command)} upgrade",)
    )


def _signing_key(path: Path) -> Step:
    """令牌的签名密钥，只有 API 的用户读得到。"""

    def right() -> bool:
        return path.is_file() and path.owner() == SERVICE_USER and path.stat().st_mode & 0o077 == 0

    def make() -> None:
        ensure_key(path)
        shutil.chown(path, SERVICE_USER, SERVICE_USER)
        path.chmod(0o600)

    return Step(f"令牌的签名密钥 {path}", right, make)


def _port(settings: Mapping[str, Any]) -> Step:
    """API 的端口空着，或听着的就是这里的 API（连着同一个数据库）：别人占着时单元只会一遍遍地重启。"""
    host, port = str(settings.get("api_host", _LOOPBACK)), int(settings.get("api_port", API_PORT))

    def usable() -> bool:
        try:
            bound_listener(host, port, "api").close()
        except SettingsError as error:
            if not _is_ours(host, port, settings):
                raise SetupFailed(str(error)) from error
        return True

    return Step(f"端口 {port} 空着，或就是这里的 API", usable)


def _is_ours(host: str, port: int, settings: Mapping[str, Any]) -> bool:
    try:
        # 没有就绪的也说自己是谁。
        instance = readiness(host, port, API_WAIT_S)[1]["checks"]["database"]["instance"]
    except (ClientError, ValueError, LookupError, TypeError):
        return False
    with _engine(settings).connect() as connection:
        return bool(connection.execute(SERVER_FACTS).one().instance == instance)


def _program_link() -> Step:
    program = _program()
    if program == PROGRAM_LINK:
        return Step(f"命令 {PROGRAM_LINK}", program.exists)

    def make() -> None:
        if os.path.lexists(PROGRAM_LINK) and not PROGRAM_LINK.is_symlink():
            raise SetupFailed(f"{PROGRAM_LINK} 已存在，而且不是链接；请移开它")
        PROGRAM_LINK.unlink(missing_ok=True)
        PROGRAM_LINK.symlink_to(program)

    return Step(
        f"命令 {PROGRAM_LINK}",
        lambda: PROGRAM_LINK.is_symlink() and PROGRAM_LINK.readlink() == program,
        make,
        (f"ln -sf {program} {PROGRAM_LINK}",),
    )


def _foreign_slurm() -> bool:
    """机器上有别人的 Slurm 命令：不遮住，也不混着来。"""
    found = (shutil.which(name) for name in COMMANDS)
    return any(path is not None and not is_own(Path(path)) for path in found)


def _slurm_commands() -> Step:
    """sbatch、squeue 等：登录的机器上给用户，节点上给作业里的 srun、squeue。"""
    prefix, python = PROGRAM_LINK.parent, sys.executable
    return Step(
        f"Slurm 的命令（{prefix} 里的 sbatch、srun、squeue 等）",
        lambda: is_installed(prefix, python),
        lambda: install(prefix, python),
        (f"{_program()} slurm install --prefix {prefix}",),
    )


def _units(wanted: Wanted) -> Iterator[Step]:
    names = [name for name, chosen in (("scns-api", wanted.api), ("scns-worker", wanted.worker)) if chosen]
    for name in names:
        yield installed_file(f"{name}.service", UNIT_DIR / f"{name}.service", _program())
    if has_systemd() and wanted.start:
        for name in names:
            yield started_unit(f"{name}.service")


def how_to_start(wanted: Wanted) -> Sequence[str]:
    """没有 systemd，或不要现在启动时，怎样启动。"""
    if has_systemd() and wanted.start:
        return ()
    program = _program()
    lines = []
    if wanted.api:
        lines.append(f"runuser -u {SERVICE_USER} -- env SCNS_DATA_DIR={HOME} {program} api")
    if wanted.worker:
        lines.append(f"env SCNS_SPOOL_DIR={SPOOL} {program} worker")
    return lines


def _program() -> Path:
    """正在运行的这个 scns；别的用户要进得去。"""
    return Path(sys.executable).parent / "scns"


def _own_name() -> str:
    return socket.getfqdn()


def _is_own(url: str, host: str) -> bool:
    """设置里的地址就是本机的引擎：口令等仍由这里管。"""
    parts: Any = urlsplit(url)
    return parts.hostname in {host, _LOOPBACK, "localhost"} and parts.username in {SERVICE_USER, None, ""}


def _api_url(wanted: Wanted) -> str:
    return f"http://{wanted.address or _LOOPBACK}:{API_PORT}"
