"""每一千个作业用掉多少条语句、多少条总线消息：不看机器快慢，批处理一旦退化成逐个就会失败。

语句数由 log_statement = all 记在 PostgreSQL 的日志里；消息数是 Valkey 自己数的入队次数。
"""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from running_system import RunningSystem, server_environment, start_system, wait_until

JOBS = 1000
FEW_JOBS = 50
MOST_BATCHES = 5
NOOP = "#!/bin/bash\n"
# 简单协议记作 statement:，扩展协议记作 execute 名字:；语句可能从下一行才开始。
_STATEMENT = re.compile(
    r"LOG:  (?:statement|execute [^:]+):\s*(?!\s|BEGIN|COMMIT|ROLLBACK|SET|SHOW|LISTEN|DISCARD|DEALLOCATE|ALTER)"
)

_ENTRY = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)


class Counted:
    """一个系统，和数它的语句与消息的办法。"""

    def __init__(self, system: RunningSystem) -> None:
        self.system = system
        self.log = system.data_dir / "logs" / "postgres.log"
        self.urls = server_environment(system)
        with psycopg.connect(self.urls["SCNS_DATABASE_URL"], autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET log_statement = 'all'")
            connection.execute("SELECT pg_reload_conf()")
            wait_until(lambda: self._logs_everything(connection), what="log_statement 生效")

    def _logs_everything(self, connection: "psycopg.Connection[tuple[object, ...]]") -> bool:
        return connection.execute("SHOW log_statement").fetchone() == ("all",)

    def statements(self) -> int:
        """到现在为止执行过的语句，不含 BEGIN、COMMIT、SET 之类。"""
        text = self.log.read_text(errors="replace")
        return len(_STATEMENT.findall(text))

    def api_statements(self) -> int:
        """其中 API 执行的；日志的每一行前面有应用的名字。"""
        text = self.log.read_text(errors="replace")
        return sum("conductor/api LOG:" in line and bool(_STATEMENT.search(line)) for line in text.splitlines())

    def entries(self, role: str, since: int) -> list[str]:
        """日志从第 since 个字符起，这个程序（api、agent）的会话做的；一项可以有几行。"""
        text = self.log.read_text(errors="replace")[since:]
        return [entry for entry in _ENTRY.split(text) if f"conductor/{role}" in entry]

    def messages(self) -> int:
        """到现在为止入队的消息：LPUSH、RPUSH 的次数。"""
        with redis.Redis.from_url(self.urls["SCNS_REDIS_URL"]) as client:
            stats = client.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("lpush", "rpush"))

    def completed(self) -> int:
        """跑完了几个（问数据库，不经 API；自己的这条语句也算在内，所以问得不密）。"""
        with psycopg.connect(self.urls["SCNS_DATABASE_URL"], autocommit=True) as connection:
            connection.execute("SET log_statement = 'none'")
            row = connection.execute("SELECT count(*) FROM jobs WHERE state = 'COMPLETED'").fetchone()
        assert row is not None
        return int(str(row[0]))

    def relayed(self) -> int:
        """节点接力启动了几个。"""
        with psycopg.connect(self.urls["SCNS_DATABASE_URL"], autocommit=True) as connection:
            found = "SELECT count(*) FROM job_events WHERE cause = 'start' AND actor LIKE 'agent@%'"
            row = connection.execute(found).fetchone()
        assert row is not None
        return int(str(row[0]))

    def run(self, path: str, body: dict[str, object], jobs: int = JOBS) -> tuple[int, int]:
        """提交并等 jobs 个跑完；返回用掉的（语句，消息）。"""
        completed, statements, messages = self.completed(), self.statements(), self.messages()
        status, answer = self.system.call("POST", path, body)
        assert status in (200, 201), answer
        wait_until(lambda: self.completed() >= completed + jobs, 120, "全部跑完")
        return self.statements() - statements, self.messages() - messages


@pytest.fixture(scope="module")
def counted(scratch: Path) -> Iterator[Counted]:
    """自己的系统：要改 PostgreSQL 的设置。"""
    with start_system(scratch / "counted", "--nodes", "1", "--cpus", "64", "--memory", "64G") as system:
        yield Counted(system)


def test_a_thousand_array_tasks_cost_under_500_statements_and_125_messages(counted: Counted) -> None:
    job = {"current_working_directory": str(counted.system.data_dir), "standard_output": "/dev/null"}
    used = counted.run("/jobs/submit", {"job": {**job, "array": f"0-{JOBS - 1}"}, "script": NOOP})
    assert 0 < used[0] < JOBS / 2, used
    assert 0 < used[1] < JOBS / 8, used


@pytest.mark.faults
def test_a_thousand_jobs_of_one_batch_cost_under_500_statements_and_125_messages(counted: Counted) -> None:
    job = {"current_working_directory": str(counted.system.data_dir), "standard_output": "/dev/null"}
    used = counted.run("/jobs/submit/batch", {"jobs": [{"job": job, "script": NOOP}] * JOBS})
    assert 0 < used[0] < JOBS / 2, used
    assert 0 < used[1] < JOBS / 8, used


@pytest.mark.faults
def test_limits_cost_no_more_statements(counted: Counted) -> None:
    """有内存上限、时限、自己的输出的，与没有的一样成批。"""
    folder = {"current_working_directory": str(counted.system.data_dir), "memory_per_node": "16M", "time_limit": "5"}
    jobs = [
        {"job": {**folder, "standard_output": f"o{index}", "standard_error": f"e{index}"}, "script": NOOP}
        for index in range(JOBS)
    ]
    used = counted.run("/jobs/submit/batch", {"jobs": jobs})
    assert 0 < used[0] < JOBS / 2, used
    assert 0 < used[1] < JOBS / 8, used


@pytest.mark.faults
def test_as_few_slots_as_cores_are_relayed(scratch: Path) -> None:
    """两个槽：没有接力时一个作业五条语句（取收件箱、启动、认领、绑核、结束）、一条消息；节点接得上时写结束、启动、认领是一条。"""
    with start_system(scratch / "two", "--nodes", "1", "--cpus", "2", "--memory", "64G") as system:
        two = Counted(system)
        job = {"current_working_directory": str(system.data_dir), "standard_output": "/dev/null", "time_limit": "5"}
        batch = {"jobs": [{"job": job, "script": NOOP}] * FEW_JOBS}
        # 机器很挤时单子到得晚、过期了：再来几批，总有接上的。
        for _ in range(MOST_BATCHES):
            used = two.run("/jobs/submit/batch", batch, FEW_JOBS)
            assert 0 < used[0] < 6 * FEW_JOBS, used
            assert 0 < used[1] < 2 * FEW_JOBS, used
            if two.relayed():
                break
        assert two.relayed()


@pytest.mark.faults
def test_a_single_submit_costs_the_api_one_statement(counted: Counted) -> None:
    body = {"job": {"hold": True, "current_working_directory": "/"}, "script": NOOP}
    before = counted.api_statements()
    for _ in range(200):
        status, answer = counted.system.call("POST", "/jobs/submit", body)
        assert status == 200, answer
    # 余下的是每秒至多一次的分区与节点。
    assert 200 <= counted.api_statements() - before < 300


def test_holding_releasing_and_cancelling_by_name_cost_a_few_statements_whatever_the_number(counted: Counted) -> None:
    job = {"name": "crowd", "begin_time": "now+1hour", "current_working_directory": "/"}
    body = {"jobs": [{"job": job, "script": NOOP}] * JOBS}
    status, answer = counted.system.call("POST", "/jobs/submit/batch", body)
    assert status == 200, answer
    for action in ("hold", "release", "cancel"):
        before = counted.api_statements()
        request = {"action": action, "conditions": {"name": "crowd"}}
        status, answer = counted.system.call("POST", "/jobs/control", request)
        assert (status, len(answer["jobs"]), answer["errors"]) == (200, JOBS, [])
        # 挑出来、改了记下、写收件箱、提醒；余下的是每秒至多一次的分区与节点。
        assert 4 <= counted.api_statements() - before < 12


def test_reading_a_job_is_one_round_trip(counted: Counted) -> None:
    """一次读不开事务，也不回滚；别的（时钟、用量……）一秒几次，比读的少。"""
    job_id = counted.system.submit(NOOP, hold=True)
    since = len(counted.log.read_text(errors="replace"))
    for _ in range(JOBS // 10):
        assert counted.system.call("GET", f"/jobs/query/{job_id}")[0] == 200
    found = counted.entries("api", since)
    assert sum("FROM jobs WHERE" in entry for entry in found) >= JOBS // 10
    assert sum("BEGIN" in entry for entry in found) < JOBS // 20
    assert sum("ROLLBACK" in entry for entry in found) < JOBS // 20


@pytest.mark.faults
def test_an_idle_agent_keeps_its_prepared_statements(counted: Counted) -> None:
    """只读的也提交：回滚之后 psycopg 另用一个往返忘掉这条会话上预备好的全部语句。"""
    since = len(counted.log.read_text(errors="replace"))

    def looked() -> int:
        return sum("FROM resource_allocations" in entry for entry in counted.entries("agent", since))

    wait_until(lambda: looked() >= 2, what="核对过两次")
    assert not [entry for entry in counted.entries("agent", since) if "DEALLOCATE" in entry or "ROLLBACK" in entry]
