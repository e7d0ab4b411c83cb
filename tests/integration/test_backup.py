"""scns db backup 与 restore：真的系统，作业正在跑。"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from node_yard import NodeYard
from restore_yard import old_jobs, pid_of
from shepherd_yard import alive, wait_until

from database_command import scns_on
from running_system import RunningSystem, database_url
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.core.settings import Settings
from scns_conductor.migrations.backup import fitting_tools
from scns_conductor.statements.incarnation import JOB_ID_MARGIN

WAITS = "echo $$ > old_$SLURM_JOB_ID\nuntil [ -e go ]; do sleep 0.1; done\nexit 7\n"


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def db(url: str, *arguments: str | Path, code: int = 0) -> str:
    return scns_on(url, "db", *arguments, code=code)


@pytest.mark.faults
def test_a_session_that_takes_tables_in_another_order_is_waited_for(yard: NodeYard, tmp_path: Path) -> None:
    """恢复不拿着一些表等另一些：别人拿着后面的、要前面的，两边都成，没有死锁。"""
    url, file = yard.urls["SCNS_DATABASE_URL"], tmp_path / "scns.dump"
    yard.submit("true\n")
    db(url, "backup", file)
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as watch, ThreadPoolExecutor(1) as pool:
        # 从前按 pg_class 里的次序一张张删。
        names = other.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        ).fetchall()
        (first,), (last,) = names[0], names[-1]
        other.execute(f"LOCK TABLE {last} IN ROW EXCLUSIVE MODE")
        restoring = pool.submit(db, url, "restore", file, "--force")
        wait_until(
            lambda: watch.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'psql'"
                " AND wait_event IN ('relation', 'PgSleep')"
            ).fetchall(),
            "恢复等着它",
        )
        other.execute(f"LOCK TABLE {first} IN ROW EXCLUSIVE MODE")
        other.commit()
        assert "PENDING 1" in restoring.result()


@pytest.mark.faults
def test_jobs_before_and_after_the_backup(yard: NodeYard, tmp_path: Path) -> None:
    """经我们的命令恢复：排队的照跑一次，跨过的接着跑，之后的杀掉，号不倒退；代理一直开着。"""
    url, file = yard.urls["SCNS_DATABASE_URL"], tmp_path / "scns.dump"
    yard.start_agent()
    across = yard.run(WAITS)
    yard.exists(f"old_{across}")
    pending = [yard.submit("echo x >> run_$SLURM_JOB_ID\n") for _ in range(3)]
    before = yard.query("SELECT incarnation FROM system_incarnation")
    db(url, "backup", file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "已经存在" in db(url, "backup", file, code=1)
    later = old_jobs(yard)
    # 这些号节点没有见过，也不再发。
    unseen = [yard.submit("exit 0\n") for _ in range(5)]
    said = db(url, "restore", file, code=1)
    assert "--force" in said
    assert yard.job(unseen[-1])["state"] == "PENDING"
    assert "PENDING 3，RUNNING 1" in db(url, "restore", file, "--force")
    yard.engine.dispose()
    assert yard.query("SELECT incarnation FROM system_incarnation") != before
    assert yard.submit("exit 0\n") > max(unseen) + JOB_ID_MARGIN - 1
    wait_until(lambda: not any(alive(pid_of(yard, job_id)) for job_id in later), "备份之后启动的都被结束")
    for job_id in pending:
        yard.start(job_id)
        assert yard.ended(job_id)["state"] == "COMPLETED"
        assert (yard.output / f"run_{job_id}").read_text() == "x\n"
    (yard.output / "go").touch()
    assert yard.ended(across)["exit_status"] == 7


@pytest.mark.faults
def test_a_backup_goes_into_an_empty_database(yard: NodeYard, empty_settings: Settings, tmp_path: Path) -> None:
    """旧服务器没有了：不必 --force，作业、节点、设置都在。"""
    job_id = yard.submit("echo 你好\n")
    yard.execute(
        "INSERT INTO nodes (name, address, cpus, memory, gres, state) VALUES ('n9', 'n9', 4, 100, '{\"gpu\": 2}', 'UP')"
    )
    file = tmp_path / "scns.dump"
    # 没有环境变量可走的选项，pg_dump 与 psql 也照着。
    options = "keepalives=1&keepalives_idle=7&tcp_user_timeout=9000"
    source, url = yard.urls["SCNS_DATABASE_URL"], empty_settings.database_url.get_secret_value()
    db(f"{source}{'&' if '?' in source else '?'}{options}", "backup", file)
    db(f"{url}{'&' if '?' in url else '?'}{options}", "restore", file)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT job_id, script FROM jobs").fetchall() == [(job_id, "echo 你好\n")]
        assert connection.execute("SELECT name, gres FROM nodes").fetchall() == [("n9", {"gpu": 2})]
    db(url, "current")
    db(url, "restored")


@pytest.mark.faults
def test_what_cannot_be_restored_changes_nothing(yard: NodeYard, tmp_path: Path) -> None:
    url, file = yard.urls["SCNS_DATABASE_URL"], tmp_path / "scns.dump"
    for number in range(200):
        yard.submit(f"echo {number}\n" + os.urandom(300).hex())
    db(url, "backup", file)
    job_id = yard.submit("echo 备份之后\n")
    data = file.read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) - len(data) // 4])
    (tmp_path / "text").write_text("不是备份")
    assert "读不懂" in db(url, "restore", tmp_path / "text", "--force", code=1)
    assert "没有备份文件" in db(url, "restore", tmp_path / "none", "--force", code=1)
    assert "数据库没有变" in db(url, "restore", tmp_path / "cut", "--force", code=1)
    yard.engine.dispose()
    assert yard.job(job_id)["state"] == "PENDING"
    # 更新的版本写的。
    yard.execute("UPDATE alembic_version SET version_num = '9999'")
    db(url, "backup", file, "--force")
    yard.execute("UPDATE alembic_version SET version_num = :head", head=wanted_version())
    assert "9999" in db(url, "restore", file, "--force", code=1)
    assert yard.job(job_id)["state"] == "PENDING"
    with pytest.raises(SettingsError, match="postgresql-client-99"):
        fitting_tools(99)


def test_a_whole_running_system_is_restored(lent_system: RunningSystem, tmp_path: Path) -> None:
    """API 与调度器都开着：没有 --force 不许；有，就断开它们，它们自己重新装载，新作业跑自己的脚本。"""
    system, file = lent_system, tmp_path / "scns.dump"
    url = database_url(system)
    across = system.submit(WAITS, current_working_directory=str(tmp_path))
    system.wait_state(across, "RUNNING")
    wait_until((tmp_path / f"old_{across}").exists, "跨过恢复的作业在跑")
    db(url, "backup", file)
    later = [system.submit(WAITS, current_working_directory=str(tmp_path)) for _ in range(3)]
    for job_id in later:
        wait_until((tmp_path / f"old_{job_id}").exists, "备份之后的作业在跑")
    assert "scheduler" in db(url, "restore", file, code=1)
    db(url, "restore", file, "--force")
    # 池里的旧连接断了：API 答 503，请客户端稍后再试。
    wait_until(lambda: system.call("GET", "/jobs")[0] == 200, "API 又连上了数据库")
    new = [system.submit("echo 新的\nexit 3\n", current_working_directory=str(tmp_path)) for _ in range(3)]
    assert min(map(int, new)) > max(map(int, later))
    for job_id in new:
        answer = system.wait_state(job_id)
        assert answer["state"] == "FAILED"
        assert answer["detail"]["exit_code"] == "3:0"
    pids = [int((tmp_path / f"old_{job_id}").read_text()) for job_id in later]
    wait_until(lambda: not any(map(alive, pids)), "备份之后的进程都被结束")
    (tmp_path / "go").touch()
    assert system.wait_state(across)["detail"]["exit_code"] == "7:0"
