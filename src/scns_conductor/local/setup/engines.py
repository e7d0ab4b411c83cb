"""本机的 PostgreSQL 与 Redis（Debian 的软件包装的）：角色、数据库、让别的机器连得上。"""

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import psycopg

from scns_conductor.core.errors import InvalidRequest, first_line
from scns_conductor.local.setup.machine import SERVICE_USER, has_systemd, run, write_file
from scns_conductor.local.setup.steps import SetupFailed, Step

DATABASE = "scns"
ADMIN = "postgres"
POSTGRES_REMEDY = "请先 apt install postgresql，或用 --database-url 指明已有的数据库"
REDIS_REMEDY = "请先 apt install redis-server（或 valkey-server），或用 --redis-url 指明已有的"
_HBA_MARK = "# scns-conductor"
_REDIS_FILES = (Path("/etc/valkey/valkey.conf"), Path("/etc/redis/redis.conf"))


def checked_network(text: str) -> str:
    """CIDR 写法的网段；写错抛 InvalidRequest。"""
    try:
        return str(ip_network(text, strict=False))
    except ValueError as error:
        raise InvalidRequest("--allow", f"{text!r} 不是网段；例如 10.0.0.0/24") from error


def new_password() -> str:
    """随机的口令，写进地址里不必转义。"""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Debian 的一个 PostgreSQL 集群（pg_lsclusters(1)）。"""

    version: str
    name: str
    port: int

    @property
    def settings_dir(self) -> Path:
        """postgresql.conf 与 pg_hba.conf 的目录。"""
        return Path("/etc/postgresql") / self.version / self.name

    def ask(self, statement: str, *, database: str = ADMIN) -> str:
        """以 postgres 的身份执行一条语句，返回没有表头的结果；经套接字，按 peer 认证。"""
        words = ["runuser", "-u", ADMIN, "--", "psql", "-p", str(self.port), "-d", database, "-Atq"]
        return run([*words, "-v", "ON_ERROR_STOP=1", "-f", "-"], stdin=statement).strip()

    def restart(self) -> None:
        """重启；由 systemd 管着的经 systemd。"""
        if has_systemd():
            run(["systemctl", "restart", f"postgresql@{self.version}-{self.name}"])
        else:
            run(["pg_ctlcluster", self.version, self.name, "restart", "-m", "fast"])


def local_cluster() -> Cluster:
    """本机在线的集群；没有、不止一个都抛 SetupFailed。"""
    try:
        rows = [line.split() for line in run(["pg_lsclusters", "--no-header"]).splitlines()]
    except SetupFailed as error:
        raise SetupFailed(f"本机没有 PostgreSQL。{POSTGRES_REMEDY}") from error
    if not rows:
        raise SetupFailed(f"本机没有 PostgreSQL 的集群（pg_lsclusters）。{POSTGRES_REMEDY}")
    online = [row for row in rows if len(row) > 3 and row[3].startswith("online")]
    if not online:
        version, name = rows[0][:2]
        start = "systemctl start postgresql" if has_systemd() else f"pg_ctlcluster {version} {name} start"
        raise SetupFailed(f"本机的 PostgreSQL 没有在运行；请先启动它：{start}")
    if len(online) > 1:
        names = "、".join(f"{row[0]}/{row[1]}" for row in online)
        raise SetupFailed(f"本机有几个 PostgreSQL（{names}）；请用 --database-url 指明用哪个")
    version, name, port = online[0][:3]
    return Cluster(version, name, int(port))


def postgres_steps(cluster: Cluster, password: str) -> list[Step]:
    """角色与数据库；password 是写进设置的口令，角色的口令与它不符就改成它。"""

    def connect() -> None:
        # 只在装的时候连几次：很慢的机器也等它。
        psycopg.connect(
            host="127.0.0.1",
            port=cluster.port,
            user=SERVICE_USER,
            password=password,
            dbname=ADMIN,
            connect_timeout=60,
        ).close()

    def role_works() -> bool:
        try:
            connect()
        except psycopg.OperationalError:
            return False
        return True

    def make_role() -> None:
        exists = cluster.ask(f"SELECT 1 FROM pg_roles WHERE rolname = '{SERVICE_USER}'") == "1"
        cluster.ask(f"{'ALTER' if exists else 'CREATE'} ROLE {SERVICE_USER} LOGIN PASSWORD '{password}'")
        try:
            connect()
        except psycopg.OperationalError as error:
            remedy = f"看 {cluster.settings_dir}/pg_hba.conf：要有 host all all 127.0.0.1/32 scram-sha-256"
            raise SetupFailed(
                f"角色 {SERVICE_USER} 建好了，用设置里的口令却连不上：{first_line(error)}。{remedy}"
            ) from error

    return [
        Step(
            f"PostgreSQL {cluster.version}/{cluster.name} 的角色 {SERVICE_USER}，用设置里的口令连得上",
            role_works,
            make_role,
            (f"runuser -u {ADMIN} -- createuser --pwprompt {SERVICE_USER}",),
        ),
        Step(
            f"数据库 {DATABASE}",
            lambda: cluster.ask(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'") == "1",
            lambda: cluster.ask(f"CREATE DATABASE {DATABASE} OWNER {SERVICE_USER} TEMPLATE template0 ENCODING 'UTF8'"),
            (f"runuser -u {ADMIN} -- createdb -O {SERVICE_USER} -T template0 -E UTF8 {DATABASE}",),
        ),
    ]


def open_postgres(cluster: Cluster, networks: Sequence[str]) -> list[Step]:
    """让这些网段里的机器连得上：监听全部地址，pg_hba.conf 只放行 scns 的库，要口令。"""
    drop_in = cluster.settings_dir / "conf.d" / "scns-conductor.conf"
    text = f"{_HBA_MARK}：节点要连到这里（scns setup 写的）\nlisten_addresses = '*'\n"
    hba = cluster.settings_dir / "pg_hba.conf"
    lines = [f"host  {DATABASE}  {SERVICE_USER}  {network}  scram-sha-256  {_HBA_MARK}" for network in networks]

    def open_already() -> bool:
        allowed = hba.read_text(encoding="utf-8")
        return (
            drop_in.is_file() and drop_in.read_text(encoding="utf-8") == text and all(line in allowed for line in lines)
        )

    def open_up() -> None:
        write_file(drop_in, text, 0o644)
        kept = [line for line in hba.read_text(encoding="utf-8").splitlines() if not line.endswith(_HBA_MARK)]
        write_file(hba, "\n".join([*kept, *lines]) + "\n", 0o640, owner=ADMIN, group=ADMIN)
        cluster.restart()

    return [
        Step(
            f"PostgreSQL 放行 {'、'.join(networks)}",
            open_already,
            open_up,
            (f"写 {drop_in}：listen_addresses = '*'", *(f"{hba} 加一行：{line}" for line in lines), "重启 PostgreSQL"),
        )
    ]


def redis_settings_file() -> Path | None:
    """Debian 的 valkey-server 或 redis-server 的设置文件；都没有装是 None。"""
    return next((path for path in _REDIS_FILES if path.is_file()), None)


def open_redis(settings_file: Path, password: str) -> Step:
    """要口令，监听全部地址，不写盘（它只传消息）。"""
    own = settings_file.with_name("scns-conductor.conf")
    text = (
        f"{_HBA_MARK}：只传消息，真相在 PostgreSQL（scns setup 写的）\n"
        f'bind * -::*\nrequirepass {password}\nsave ""\nappendonly no\n'
    )
    include = f"include {own}"
    unit = f"{settings_file.stem}-server"
    group = settings_file.group()

    def done() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return own.read_text(encoding="utf-8") == text and include in settings_file.read_text(encoding="utf-8")
        return False

    def make() -> None:
        write_file(own, text, 0o640, group=group)
        kept = settings_file.read_text(encoding="utf-8")
        if include not in kept:
            found = settings_file.stat()
            write_file(
                settings_file,
                f"{kept.rstrip()}\n\n{include}\n",
                found.st_mode & 0o7777,
                owner=settings_file.owner(),
                group=group,
            )
        if has_systemd():
            run(["systemctl", "restart", unit])
        else:
            run(["service", unit, "restart"])

    return Step(
        f"{unit} 要口令，别的机器连得上",
        done,
        make,
        (f"写 {own}", f"{settings_file} 加一行：{include}", f"重启 {unit}"),
    )
