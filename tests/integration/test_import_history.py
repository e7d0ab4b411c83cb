"""scns import slurm --jobs：sacct 的历史写进系统，从第一天起公平份额、报告、sacct、模拟都有得看。"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from slurm_links import Commands

import warm_commands
from lent_systems import set_up
from running_system import RunningSystem, as_user, database_url, wait_until

FILE = Path(__file__).parents[1] / "data" / "slurm" / "history.sacct"
SCNS = Path(sys.executable).parent / "scns"
ZONE = ("--timezone", "Asia/Shanghai")
PRIORITY = {
    "priority_type": "multifactor",
    "priority_weights": {"fairshare": 100000},
    "priority_calc_period_s": 1,
}


@pytest.fixture(scope="module")
def own(lent_system: RunningSystem) -> RunningSystem:
    """自己的账户树。"""
    system = set_up(lent_system, **PRIORITY)
    for account in ("physics", "chem"):
        assert system.call("POST", "/accounts", {"name": account})[0] == 201
    for account, user in (("physics", "ann"), ("physics", "bob"), ("chem", "ann"), ("chem", "cyd")):
        assert system.call("POST", "/associations", {"account": account, "user": user})[0] == 201
    return system


def scns(system: RunningSystem, *words: str) -> subprocess.CompletedProcess[str]:
    return warm_commands.run([SCNS, *words], env=system.environment)


def imported(system: RunningSystem, *words: str) -> dict[str, Any]:
    done = scns(system, "import", "slurm", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def slurm(own: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(own, tmp_path)


def command(slurm: Commands, *words: str) -> str:
    done = slurm.run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def usage(system: RunningSystem) -> dict[str, tuple[int, float]]:
    query = "since=2026-11-01T00:00:00Z&until=2026-11-04T00:00:00Z"
    rows = system.call("GET", f"/reports/usage?{query}")[1]["usage"]
    found: dict[str, tuple[int, float]] = {}
    for row in rows:
        jobs, cpu_s = found.get(row["user_name"], (0, 0.0))
        found[row["user_name"]] = (jobs + row["jobs"], cpu_s + row["cpu_s"])
    return found


def test_the_history_of_sacct_is_there_from_the_first_day(own: RunningSystem) -> None:
    dry = imported(own, "--jobs", str(FILE), *ZONE, "--dry-run")
    assert (dry["read"], dry["added"], len(dry["findings"])) == (7, 0, 5)
    assert own.call("GET", "/jobs")[1]["jobs"] == []
    found = imported(own, "--jobs", str(FILE), *ZONE)
    assert (found["added"], found["present"], found["unknown_accounts"]) == (7, 0, [])
    assert [each["place"].rpartition(":")[2] for each in found["findings"]] == ["13", "14", "15", "16", "17"]
    # CPU 数乘以时长，每次尝试都算；从没有开始过的、不是最后一次的不算结束了的作业。
    expected = {"ann": (2, 9 * 7200 + 4 * (3590 + 9000 + 3600)), "bob": (2, 10 + 1800), "cyd": (2, 2 * 900 + 2 * 1200)}
    assert usage(own) == expected
    # 再来一遍不重。
    again = imported(own, "--jobs", str(FILE), *ZONE)
    assert (again["added"], again["present"]) == (0, 7)
    assert usage(own) == expected
    audited = own.call("GET", "/audit?action=history")[1]["audit"]
    assert [(each["target"], each["after"]["jobs"]) for each in audited] == [("slurm", 7)]


def test_the_jobs_are_shown_like_any_others(own: RunningSystem, slurm: Commands) -> None:
    imported(own, "--jobs", str(FILE), *ZONE)
    rows = command(
        slurm, "sacct", "-a", "-D", "-X", "-n", "-P", "-S", "2026-11-01", "-E", "2026-11-04",
        "--format=JobID,JobName,User,Account,State,ExitCode,ElapsedRaw,NodeList,AllocCPUS,TimelimitRaw",
    ).splitlines()  # fmt: skip
    assert "4101|relax|ann|physics|COMPLETED|0:0|7200|node[1-2]|9|240" in rows
    assert "4102_1|sweep|bob|physics|FAILED|1:0|10|node3|1|UNLIMITED" in rows
    assert "4106+1|coupled|cyd|chem|OUT_OF_MEMORY|0:125|1200|gpu1|2|60" in rows
    assert any(row.startswith("4104_[3-5,9]|sweep2|bob|physics|CANCELLED") for row in rows)
    assert [row.split("|")[4] for row in rows if row.startswith("4105|")] == ["REQUEUED", "NODE_FAIL", "COMPLETED"]
    job = own.call("GET", "/jobs/4101")[1]
    assert (job["max_rss_kb"], job["allocated_gres"], job["restart_count"]) == (3 * 1024**2, "gpu:a100=2", 0)
    assert [part["cpus"] for part in job["allocations"]] == [5, 4]
    events = own.call("GET", "/jobs/4105/events")[1]["events"]
    assert {each["cause"] for each in events} == {"import"}
    assert (events[0]["actor"], events[0]["to_state"]) == ("slurm", "PENDING")
    top = command(
        slurm, "sreport", "-P", "-n", "-t", "seconds", "-T", "gres/gpu", "user", "topusage",
        "start=2026-11-01", "end=2026-11-04", "format=login,used",
    ).splitlines()  # fmt: skip
    assert top[:2] == ["ann|14400", "cyd|1200"]
    # 新作业的号接在后面，用户只看得到自己的脚本（搬来的没有）。
    number = own.submit("#!/bin/sh\ntrue\n")
    assert int(number) > 4107
    own.wait_state(number, "COMPLETED")


def recent(count: int) -> str:
    """刚过去的几个小时里的历史，两个用户，时刻是 Unix 秒。"""
    now = int(time.time()) - 6 * 3600
    lines = [
        "JobID|JobIDRaw|JobName|User|Account|Partition|State|Submit|Start|End|ElapsedRaw|TimelimitRaw|NodeList|AllocCPUS"
    ]
    for index in range(count):
        user, account, run = ("ann", "physics", 600) if index % 2 else ("cyd", "chem", 60)
        begin = now + index * 20
        lines.append(
            f"{9000 + index}|{9000 + index}|r{index}|{user}|{account}|main|COMPLETED|{begin}|{begin + 5}|"
            f"{begin + 5 + run}|{run}|30|node1|2"
        )
    return "\n".join(lines) + "\n"


def test_fair_share_and_the_simulator_work_with_it(own: RunningSystem, slurm: Commands, tmp_path: Path) -> None:
    path = tmp_path / "recent.sacct"
    path.write_text(recent(40))
    assert imported(own, "--jobs", str(path))["added"] == 40

    def shares() -> dict[tuple[str, str], float]:
        lines = command(slurm, "sshare", "-a", "-P", "-n", "--format=Account,User,RawUsage").splitlines()
        rows = [line.split("|") for line in lines]
        return {(row[0].strip(), row[1]): float(row[2]) for row in rows if row[1]}

    wait_until(lambda: shares().get(("physics", "ann"), 0) > 20 * 1200 * 0.9, 60, "公平份额看到了历史")
    found = shares()
    # 二十个十分钟的，对二十个一分钟的；半衰期七天，几乎没有衰减。
    assert 20 * 120 * 0.9 < found["chem", "cyd"] < found["physics", "ann"]
    since = datetime.fromtimestamp(time.time() - 7 * 3600, UTC).isoformat()
    replayed = scns(own, "simulate", "--live", "--since", since, "--json")
    assert replayed.returncode == 0, replayed.stderr
    assert json.loads(replayed.stdout)["policies"]["live"]["jobs"] >= 40
    # 同一个文件，模拟器也直接读得了。
    direct = scns(own, "simulate", str(path), "--procs", "8", "--json")
    assert json.loads(direct.stdout)["policies"]["easy"]["jobs"] == 40


def test_what_cannot_be_taken_says_why(own: RunningSystem, tmp_path: Path) -> None:
    titles = "JobID|JobIDRaw|JobName|User|Account|Partition|State|Submit|Start|End|ElapsedRaw|NodeList|AllocCPUS"
    mine = own.submit("#!/bin/sh\ntrue\n")
    future = int(time.time()) + 30 * 86400
    rows = [
        f"{mine}|{mine}|x|ann|physics|main|COMPLETED|1793000000|1793000010|1793000070|60|n1|1",
        f"9900|9900|x|ann|physics|main|COMPLETED|{future}|{future}|{future + 60}|60|n1|1",
        f"9901|9901|{'x' * 300}|ann|physics|main|COMPLETED|1793000000|1793000010|1793000070|60|n1|1",
        "9902|9902|x|ann|nowhere|main|COMPLETED|1793000000|1793000010|1793000070|60|n1|1",
    ]
    path = tmp_path / "bad.sacct"
    path.write_text("\n".join([titles, *rows]) + "\n")
    found = imported(own, "--jobs", str(path))
    reasons = {each["place"].rpartition(":")[2]: each["reason"] for each in found["findings"]}
    assert found["added"] == 1
    assert found["unknown_accounts"] == ["nowhere"]
    assert "别的作业" in reasons["2"]
    assert "以后" in reasons["3"]
    assert reasons["4"].startswith("name：")
    user = as_user(own, "bob")
    refused = scns(user, "import", "slurm", "--jobs", str(path))
    assert refused.returncode == 1
    assert "管理员" in refused.stderr
    missing = scns(own, "import", "slurm", "--jobs", str(tmp_path / "none"))
    assert (missing.returncode, "Traceback" in missing.stderr) == (1, False)
    (tmp_path / "wrong").write_text("JobID|State\n1|COMPLETED\n")
    wrong = scns(own, "import", "slurm", "--jobs", str(tmp_path / "wrong"))
    assert wrong.returncode == 1
    assert "sacct -a -D -P" in wrong.stderr
    assert scns(own, "import", "slurm", "--jobs", str(path), "--timezone", "Mars/Base").returncode == 2


def test_scattered_tasks_are_counted_before_they_are_listed(own: RunningSystem) -> None:
    """步长不一的没有启动的任务照区间记：几个字节的写法、许多个这样的，都先数过。"""

    def job(number: int, tasks: str) -> dict[str, Any]:
        given = {"job_id": number, "user_name": "bob", "partition": "main", "state": "CANCELLED", "array_tasks": tasks}
        return {**given, "array_job_id": number, "submit_time": 1793000000, "end_time": 1793000060}

    status, answer = own.call("POST", "/jobs/history", {"jobs": [job(9800, "0-9999999:2,1-9999999:3")]})
    assert status == 422
    assert [each["field"] for each in answer["errors"]] == ["jobs[0].array_tasks"]
    many = [job(9801 + index, "0-59999:2,1-59999:3") for index in range(6)]
    status, answer = own.call("POST", "/jobs/history", {"jobs": many})
    assert (status, answer["errors"][0]["field"]) == (422, "jobs"), answer
    few = [job(9801, "0-59999:2,1-59999:3"), job(9802, "0-9999999:3")]
    status, answer = own.call("POST", "/jobs/history", {"jobs": few})
    assert (status, answer["added"]) == (200, 2), answer
    found = own.call("GET", "/jobs/arrays?job_id=9801,9802")[1]["arrays"]
    assert {each["job_id"]: each["by_state"] for each in found} == {
        "9801": {"CANCELLED": len({*range(0, 60000, 2), *range(1, 60000, 3)})}, "9802": {"CANCELLED": 3_333_334},
    }  # fmt: skip


def test_nobody_is_told_about_imported_jobs(own: RunningSystem, tmp_path: Path) -> None:
    """webhook 只说这里真的发生的：先写进历史，再跑一个自己的，只有自己的那个要送。"""
    wanted = {"url": "http://127.0.0.1:9/hook", "events": ["job.*"], "scope": "cluster"}
    status, hook = own.call("POST", "/webhooks", wanted)
    assert status == 201, hook
    path = tmp_path / "one.sacct"
    path.write_text(recent(2).replace("|9000|", "|9500|").replace("\n9000|", "\n9500|").replace("9001", "9501"))
    assert imported(own, "--jobs", str(path))["added"] == 2
    number = own.submit("#!/bin/sh\ntrue\n")
    own.wait_state(number, "COMPLETED")

    def told() -> set[str]:
        with psycopg.connect(database_url(own)) as connection:
            rows = connection.execute("SELECT payload FROM webhook_deliveries").fetchall()
        return {str(json.loads(row[0])["data"]["job_id"]) for row in rows}

    wait_until(lambda: number in told(), 60, "自己的作业要送")
    assert told() == {number}
    assert own.call("DELETE", f"/webhooks/{hook['webhook_id']}")[0] == 204
    audited = own.call("GET", "/audit?action=webhook")[1]["audit"]
    assert [each["action"] for each in audited] == ["webhook.delete", "webhook.create"]
    assert "secret" not in json.dumps(audited)
