#!/usr/bin/env python3
"""健康检查：数据库、结构版本、Valkey、领导者、节点心跳；--deep 再真的跑一个作业。

退出码说明哪一样不好（取最先不好的一样）：
  0 全部正常            3 Valkey 连不上          6 API 不应答
  1 数据库连不上        4 没有调度领导者         7 作业没有跑通（--deep）
  2 结构版本不对        5 有节点没有心跳，或一个节点也没有
设置与服务相同（SCNS_DATABASE_URL、SCNS_REDIS_URL……）；scns up 的系统可先执行 `. 数据目录/environment`。
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import redis
import sqlalchemy as sa

from scns_conductor import migrations
from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.settings import Settings, current_user_name, load_settings
from scns_conductor.core.statements import leader_select
from scns_conductor.core.tokens import issue_token

DEEP_WAIT_S = 60.0
DATABASE, SCHEMA, VALKEY, LEADER, NODES, API, JOB = 1, 2, 3, 4, 5, 6, 7


class Unhealthy(Exception):
    """一样检查没有通过；说明里有补救办法。"""


def check_database(settings: Settings) -> str:
    """连得上，能执行一条语句。"""
    engine = sync_engine(settings, pool_size=1, role="health")
    try:
        with engine.connect() as connection:
            version = connection.scalar(sa.text("SHOW server_version"))
    except sa.exc.DBAPIError as error:
        raise Unhealthy(
            f"连不上：{str(error.orig).splitlines()[0]}；检查 SCNS_DATABASE_URL 与服务是否在运行"
        ) from error
    finally:
        engine.dispose()
    return f"PostgreSQL {version}"


def check_schema(settings: Settings) -> str:
    """结构是这个版本要的。"""
    current, wanted = migrations.current(settings), migrations.head()
    if current != wanted:
        raise Unhealthy(f"结构是 {current}，应是 {wanted}；执行 scns db upgrade")
    return str(current)


def check_valkey(settings: Settings) -> str:
    """应答 PING。它只传消息，不在时作业不丢，只是慢。"""
    try:
        with redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=5) as client:
            client.ping()
            version = client.info("server").get("redis_version", "?")
    except redis.RedisError as error:
        raise Unhealthy(f"连不上：{error}；检查 SCNS_REDIS_URL 与服务是否在运行") from error
    return f"{version}"


def check_leader(settings: Settings) -> str:
    """领导者的租约没有过期。"""
    row = _one(settings, leader_select(), lease=settings.scheduler_lease_s)
    if row is None or not row.alive:
        raise Unhealthy("没有；启动一个不带 --no-scheduler 的 scns worker")
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
    return f"{row.alive} 个"


def check_api(settings: Settings) -> str:
    """/health/ready 回答 200。"""
    url = _url(settings)
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
            json.loads(answer.read())
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unhealthy(f"{url} 不应答：{error}") from error
    return url


def check_job(settings: Settings) -> str:
    """提交一个作业，等它跑完，核对输出。"""
    token = issue_token(settings, current_user_name(), lifetime_s=300)
    body = {"job": {"name": "health-check", "current_working_directory": "/tmp", "time_limit": "1",
                    "standard_output": "/dev/null"}, "script": "#!/bin/sh\nexit 0\n"}  # fmt: skip
    try:
        job_id = _call(settings, token, "POST", "/jobs/submit", body)["job_id"]
        deadline = time.monotonic() + DEEP_WAIT_S
        while True:
            state = _call(settings, token, "GET", f"/jobs/query/{job_id}")["state"]
            if state not in ("PENDING", "RUNNING"):
                break
            if time.monotonic() > deadline:
                _call(settings, token, "POST", f"/jobs/cancel/{job_id}")
                raise Unhealthy(f"作业 {job_id} 在 {DEEP_WAIT_S:g} 秒内没有结束，停在 {state}；已取消")
            time.sleep(0.1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unhealthy(f"提交或查询出错：{error}") from error
    if state != "COMPLETED":
        raise Unhealthy(f"作业 {job_id} 的结局是 {state}，应是 COMPLETED")
    return f"作业 {job_id} 跑通了"


def _one(settings: Settings, statement: sa.TextClause, **values: object) -> "sa.Row[tuple[object, ...]] | None":
    engine = sync_engine(settings, pool_size=1, role="health")
    try:
        with engine.connect() as connection:
            return connection.execute(statement, values).one_or_none()
    finally:
        engine.dispose()


def _url(settings: Settings) -> str:
    return os.environ.get("SCNS_URL") or f"http://{settings.api_host}:{settings.api_port}"


def _call(settings: Settings, token: str, method: str, path: str, body: object = None) -> dict[str, str]:
    request = urllib.request.Request(
        _url(settings) + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, str] = json.loads(answer.read())
    return found


CHECKS: list[tuple[str, int, Callable[[Settings], str]]] = [
    ("数据库", DATABASE, check_database),
    ("结构版本", SCHEMA, check_schema),
    ("Valkey", VALKEY, check_valkey),
    ("领导者", LEADER, check_leader),
    ("节点", NODES, check_nodes),
    ("API", API, check_api),
]


def main() -> int:
    """逐样检查并打印；返回退出码。"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deep", action="store_true", help="再真的跑一个作业")
    parser.add_argument("--skip-api", action="store_true", help="不查 API（在节点上用）")
    options = parser.parse_args()
    try:
        settings = load_settings()
    except ConductorError as error:
        print(error, file=sys.stderr)
        return DATABASE
    code = 0
    checks = [item for item in CHECKS if not (options.skip_api and item[1] == API)]
    if options.deep:
        checks.append(("作业", JOB, check_job))
    for name, number, check in checks:
        try:
            print(f"正常  {name}：{check(settings)}")
        except (Unhealthy, ConductorError, sa.exc.SQLAlchemyError) as error:
            print(f"不好  {name}：{str(error).splitlines()[0]}")
            code = code or number
    return code


if __name__ == "__main__":
    sys.exit(main())
