#!/usr/bin/env python3
"""健康检查：数据库、结构版本、Valkey、领导者、节点心跳；--deep 再真的跑一个作业。退出码见 --help。"""

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import click
import sqlalchemy as sa

from scns_conductor.cli.click_words import in_own_language, speak
from scns_conductor.client.endpoint import CLIENT_FILE, read_client_file
from scns_conductor.core.database import is_pooled, sync_engine
from scns_conductor.core.errors import ConductorError, first_line
from scns_conductor.core.schema_version import mismatch_text, schema_version, wanted_version
from scns_conductor.core.settings import Settings, current_user_name, load_settings
from scns_conductor.core.tokens import issue_token
from scns_conductor.language import told
from scns_conductor.services.server_facts import database_report
from scns_conductor.services.valkey_health import valkey_health
from scns_conductor.statements.leadership import leader_select
from scns_conductor.statements.server_facts import SERVER_FACTS

DEEP_WAIT_S = 60.0
# 服务器连不上新的会话时说的：全满、留给超级用户的之外满了、这个角色或库的上限满了。
_FULL = ("too many clients", "connection slots are reserved", "too many connections for")
DATABASE, SCHEMA, VALKEY, LEADER, NODES, API, JOB = 1, 2, 3, 4, 5, 6, 7

HELP = """健康检查：数据库、结构版本、Valkey、领导者、节点心跳；--deep 再真的跑一个作业。

退出码说明哪一样不好（取最先不好的一样）：0 全部正常，1 数据库不能用，2 结构版本不对，3 Valkey 连不上，
4 没有调度领导者，5 有节点没有心跳或一个节点也没有，6 API 不应答，7 作业没有跑通（--deep）。

设置与服务相同（SCNS_DATABASE_URL、SCNS_REDIS_URL 等）；scns up 的系统可先执行 `. 数据目录/environment`。"""


class Unhealthy(Exception):
    """一样检查没有通过；说明里有补救办法。"""


def check_database(settings: Settings) -> str:
    """连得上，够新，可写；设置不够好的只提醒，不算不好。"""
    facts = _one(settings, SERVER_FACTS)
    nodes = _one(settings, sa.text("SELECT to_regclass('nodes') AS found"))
    counted = _one(settings, sa.text("SELECT count(*) AS nodes FROM nodes")) if nodes and nodes.found else None
    assert facts is not None
    report = database_report(
        facts._mapping, counted.nodes if counted and not is_pooled(settings) else 0, settings.database_pool_size
    )
    for shortfall in report["shortfalls"]:
        _say("注意", "数据库", shortfall)
    if "remedy" in report:
        raise Unhealthy(f"PostgreSQL {report['version']}，{report['remedy']}")
    return f"PostgreSQL {report['version']}"


def check_schema(settings: Settings) -> str:
    """结构是这个版本要的。"""
    engine = sync_engine(settings, role="health", lookups=False, pooled=False)
    current, wanted = schema_version(engine), wanted_version()
    if current != wanted:
        raise Unhealthy(mismatch_text(current, wanted))
    return wanted


def check_valkey(settings: Settings) -> str:
    """连得上，口令与权限够。它只传消息，不在时作业不丢，只是慢；设置不够好的只提醒。"""
    found = asyncio.run(valkey_health(settings, None, ()))
    if "remedy" in found:
        raise Unhealthy(found["remedy"])
    for shortfall in found["shortfalls"]:
        _say("注意", "Valkey", shortfall)
    return found["version"] or "没有 INFO 的权限，看不见版本与淘汰的策略"


def check_leader(settings: Settings) -> str:
    """领导者的租约没有过期。"""
    row = _one(settings, leader_select(), lease=settings.scheduler_lease_s)
    if row is None or not row.alive:
        raise Unhealthy("没有；启动 scns api（或 scns worker --scheduler）")
    return str(row.holder)


def check_nodes(settings: Settings) -> str:
    """每个没有下线的节点都有新鲜的心跳，至少有一个。"""
    row = _one(
        settings,
        sa.text(
            "SELECT count(*) FILTER (WHERE fresh) AS alive, "
            "coalesce(string_agg(name, ', ') FILTER (WHERE NOT fresh), '') AS silent FROM (SELECT name, "
            "coalesce(last_heartbeat > clock_timestamp() - make_interval(secs => :timeout), false) "
            "AND state = 'UP' AS fresh "
            "FROM nodes WHERE NOT (state = 'DOWN' AND reason_user IS DISTINCT FROM 'scheduler')) AS n"
        ),
        timeout=settings.node_timeout_s,
    )
    assert row is not None
    if row.silent or not row.alive:
        raise Unhealthy(f"没有心跳：{row.silent or '一个节点也没有登记'}；检查那里的 scns worker")
    return f"{row.alive} 个有心跳"


def check_api(settings: Settings) -> str:
    """/health/ready 回答 200，而且它连的就是这个数据库。"""
    url = _url(settings)
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Unhealthy(f"{url} 没有就绪：{_refusal(error)}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unhealthy(f"{url} 不应答：{error}；API 在别处就设 SCNS_URL，这台机器上没有就加 --skip-api") from error
    facts = _one(settings, SERVER_FACTS)
    if facts is None or found.get("checks", {}).get("database", {}).get("instance") != facts.instance:
        raise Unhealthy(f"{url} 是别的系统：它连的不是 SCNS_DATABASE_URL 这个数据库；用 SCNS_URL 指明自己的 API")
    return url


def check_job(settings: Settings, user: str | None, account: str | None, partition: str | None) -> str:
    """提交一个作业，等它跑完，核对结局。"""
    user = user or _job_user(settings)
    token = issue_token(settings, user, lifetime_s=300)
    job = {"name": "health-check", "current_working_directory": "/tmp", "time_limit": "1",
           "standard_output": "/dev/null", "account": account, "partition": partition}  # fmt: skip
    body = {"job": {name: value for name, value in job.items() if value}, "script": "#!/bin/sh\nexit 0\n"}
    try:
        job_id = _call(settings, token, "POST", "/jobs/submit", body)["job_id"]
        deadline = time.monotonic() + DEEP_WAIT_S
        while True:
            found = _call(settings, token, "GET", f"/jobs/query/{job_id}")
            if found["state"] not in ("PENDING", "RUNNING"):
                break
            if time.monotonic() > deadline:
                _call(settings, token, "POST", f"/jobs/cancel/{job_id}")
                raise Unhealthy(
                    f"用户 {user} 的作业 {job_id} 在 {DEEP_WAIT_S:g} 秒内没有结束，停在 {found['state']}；已取消"
                )
            time.sleep(0.1)
    except urllib.error.HTTPError as error:
        raise Unhealthy(
            f"用户 {user} 的作业被拒：{_refusal(error)}；可用 --user、--account、--partition 换成有权提交的"
        ) from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unhealthy(f"提交或查询出错：{error}") from error
    if found["state"] != "COMPLETED":
        why = found.get("error_msg") or "没有说明"
        raise Unhealthy(f"用户 {user} 的作业 {job_id} 的结局是 {found['state']}（{why}），应是 COMPLETED")
    return f"用户 {user} 的作业 {job_id} 跑通了"


def _reason(error: sa.exc.DBAPIError) -> str:
    """数据库没有答的原因，与补救。"""
    text = first_line(error)
    if not isinstance(error, sa.exc.OperationalError):
        return text
    if any(words in text for words in _FULL):
        return f"连接用完了：{text}；改大 max_connections，或用事务模式的 PgBouncer"
    return f"连不上：{text}；检查 SCNS_DATABASE_URL 与服务是否在运行"


def _job_user(settings: Settings) -> str:
    """root 的作业节点缺省不跑：换成哪里都有的 nobody。"""
    name = current_user_name()
    return "nobody" if name == "root" and not settings.allow_root_jobs else name


def _one(settings: Settings, statement: sa.TextClause, **values: object) -> "sa.Row[Any] | None":
    engine = sync_engine(settings, role="health", lookups=False, pooled=False)
    with engine.connect() as connection:
        return connection.execute(statement, values).one_or_none()


def _url(settings: Settings) -> str:
    """SCNS_URL、数据目录里的 client.json（scns up）、设置里的监听地址，依次。"""
    if os.environ.get("SCNS_URL"):
        return os.environ["SCNS_URL"].rstrip("/")
    known = read_client_file(str(settings.data_dir / CLIENT_FILE))
    return known.url if known else f"http://{settings.api_host}:{settings.api_port}"


def _refusal(error: urllib.error.HTTPError) -> str:
    """problem JSON 的那句话；/health/ready 的是没有就绪的几项。"""
    try:
        body = json.loads(error.read())
    except ValueError:
        return f"{error.code} {error.reason}"
    if "detail" in body:
        return f"{body['detail']}（{body.get('code')}）"
    failed = {name: check["remedy"] for name, check in body.get("checks", {}).items() if "remedy" in check}
    return "；".join(f"{name}：{remedy}" for name, remedy in failed.items()) or f"{error.code} {error.reason}"


def _call(settings: Settings, token: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        _url(settings) + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


CHECKS: list[tuple[str, int, Callable[[Settings], str]]] = [
    ("数据库", DATABASE, check_database),
    ("结构版本", SCHEMA, check_schema),
    ("Valkey", VALKEY, check_valkey),
    ("领导者", LEADER, check_leader),
    ("节点", NODES, check_nodes),
    ("API", API, check_api),
]


def _say(verdict: str, name: str, text: str) -> None:
    print(f"{told(verdict)}  {told(name)}{told('：')}{told(text)}")


def run(settings: Settings, checks: list[tuple[str, int, Callable[[Settings], str]]]) -> int:
    """逐样检查并打印；返回退出码。"""
    code, before = 0, ""
    for name, number, check in checks:
        try:
            _say("正常", name, check(settings))
        except sa.exc.DBAPIError as error:
            why = _reason(error)
            _say("不好", name, "数据库不答，看不了" if why == before else why)
            code, before = code or number, why
        except (Unhealthy, ConductorError, sa.exc.SQLAlchemyError) as error:
            _say("不好", name, str(error).splitlines()[0])
            code = code or number
    return code


speak()


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--deep", is_flag=True, help="再真的跑一个作业")
@click.option("--user", help="--deep 的作业是谁的；缺省自己，root 的作业不许跑时是 nobody")
@click.option("--account", help="--deep 的作业的账户")
@click.option("--partition", help="--deep 的作业的分区")
@click.option("--skip-api", is_flag=True, help="不查 API（在节点上用）")
def main(deep: bool, user: str | None, account: str | None, partition: str | None, skip_api: bool) -> None:
    """说明在 HELP。"""
    try:
        settings = load_settings()
    except ConductorError as error:
        print(told(str(error)), file=sys.stderr)
        sys.exit(DATABASE)
    checks = [item for item in CHECKS if not (skip_api and item[1] == API)]
    if deep:
        checks.append(("作业", JOB, lambda settings: check_job(settings, user, account, partition)))
    sys.exit(run(settings, checks))


in_own_language(main)

if __name__ == "__main__":
    main()
