"""上限对着真的系统：真的用户令牌、真的作业等着，原因码是 Slurm 的；腾出来就启动。"""

from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from lent_systems import set_up
from running_system import RunningSystem, as_user, wait_until

POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    found = set_up(lent_system, accounting_storage_enforce="limits,qos", priority_calc_period_s=0.5)
    admin(found, "add", "account", "physics")
    admin(found, "add", "account", "theory,lab", "parent=physics")
    admin(found, "add", "user", "alice", "account=theory")
    admin(found, "add", "user", "bob", "account=lab")
    return found


def admin(system: RunningSystem, *words: str) -> str:
    """管理员的 sacctmgr。"""
    prefix = system.data_dir.with_name("admin-bin")
    work = system.data_dir.with_name("admin-work")
    work.mkdir(exist_ok=True)
    done = Commands(system, prefix, work).run("sacctmgr", "-i", *words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def alice(system: RunningSystem) -> RunningSystem:
    return as_user(system, "alice")


@pytest.fixture
def bob(system: RunningSystem) -> RunningSystem:
    return as_user(system, "bob")


def until(tmp_path: Path, name: str = "go") -> str:
    return f"while [ ! -e {tmp_path}/{name} ]; do sleep 0.1; done\n"


def row(system: RunningSystem, job_id: str) -> dict[str, Any]:
    status, answer = system.call("GET", f"/jobs/{job_id}")
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def waits(system: RunningSystem, job_id: str, reason: str) -> None:
    """它在等，原因是这个。"""
    wait_until(lambda: row(system, job_id)["reason"] == reason, 60, f"{job_id} 的原因 {reason}，{row(system, job_id)}")
    assert row(system, job_id)["state"] == "PENDING"


def allowed(system: RunningSystem, qos: str, user: str = "alice") -> None:
    admin(system, "modify", "user", user, "set", f"qos+={qos}")


def test_jobs_of_one_user_in_a_qos(system: RunningSystem, alice: RunningSystem, tmp_path: Path) -> None:
    admin(system, "add", "qos", "single", "MaxJobsPerUser=1")
    allowed(system, "single")
    allowed(system, "single", "bob")
    first = alice.submit(until(tmp_path), qos="single")
    alice.wait_state(first, "RUNNING")
    second = alice.submit("true\n", qos="single")
    waits(alice, second, "QOSMaxJobsPerUserLimit")
    # 别人不受影响；没有写 QOS 的也不受影响。
    other = as_user(system, "bob").submit("true\n", qos="single")
    plain = alice.submit("true\n")
    for job in (other, plain):
        alice.wait_state(job, "COMPLETED")
    assert row(alice, plain)["qos"] == "normal"
    assert row(alice, second)["state"] == "PENDING"
    (tmp_path / "go").touch()
    alice.wait_state(second, "COMPLETED")


def test_cpus_of_a_whole_subtree(
    system: RunningSystem, alice: RunningSystem, bob: RunningSystem, tmp_path: Path
) -> None:
    admin(system, "modify", "account", "physics", "set", "GrpTRES=cpu=3")
    try:
        first = alice.submit(until(tmp_path), tasks=2)
        alice.wait_state(first, "RUNNING")
        # 不同账户里的 bob 也在 physics 之下。
        wide = bob.submit("true\n", tasks=2)
        waits(bob, wide, "AssocGrpCpuLimit")
        narrow = bob.submit("true\n", tasks=1)
        bob.wait_state(narrow, "COMPLETED")
        array = alice.submit(until(tmp_path), array="0-3")
        wait_until(lambda: active(system) == 2, 60, "数组只跑得起一个")
        waits(bob, wide, "AssocGrpCpuLimit")
        (tmp_path / "go").touch()
        bob.wait_state(wide, "COMPLETED")
        alice.wait_state(array, "COMPLETED")
    finally:
        admin(system, "modify", "account", "physics", "set", "GrpTRES=cpu=-1")


def active(system: RunningSystem) -> int:
    states = system.call("GET", "/dashboard")[1]["jobs"]["by_state"]
    return int(states.get("RUNNING", 0))


def test_a_limit_raised_lets_the_waiting_job_go(system: RunningSystem, alice: RunningSystem) -> None:
    admin(system, "add", "qos", "short", "MaxWall=1", "MaxTRES=cpu=2")
    allowed(system, "short")
    long = alice.submit("true\n", qos="short", time_limit="5")
    waits(alice, long, "QOSMaxWallDurationPerJobLimit")
    wide = alice.submit("true\n", qos="short", tasks=3)
    waits(alice, wide, "QOSMaxCpuPerJobLimit")
    # 没有写时限的取上限。
    assert row(alice, wide)["time_limit"] == 60
    admin(system, "modify", "qos", "short", "set", "MaxWall=10", "MaxTRES=cpu=4")
    for job in (long, wide):
        alice.wait_state(job, "COMPLETED")


def test_refusals_are_slurms_words(system: RunningSystem, alice: RunningSystem, tmp_path: Path) -> None:
    admin(system, "add", "qos", "strict", "MaxWall=1", "flags=DenyOnLimit", "GrpTRES=cpu=3")
    allowed(system, "strict")
    (tmp_path / "work").mkdir()
    slurm = Commands(alice, tmp_path / "bin", tmp_path / "work")

    def refused(*words: str) -> str:
        done = slurm.run("sbatch", *words, text="#!/bin/sh\ntrue\n")
        assert (done.returncode, done.stdout) == (1, ""), done
        return done.stderr.removeprefix("sbatch: error: Batch job submission failed: ").strip()

    assert refused("-q", "strict", "-t", "5") == POLICY
    assert refused("-q", "strict", "-n", "4") == POLICY
    assert refused("-q", "nosuch") == "Invalid qos specification"
    assert refused("-A", "lab") == "Invalid account or account/partition combination specified"
    admin(system, "modify", "user", "alice", "set", "maxsubmit=2")
    try:
        held = [alice.submit("true\n", hold=True) for _ in range(2)]
        assert refused() == POLICY
        # 数组按任务数计；一批里超了，整批都不留下。
        alice.call("POST", f"/jobs/cancel/{held[0]}")
        assert refused("--array=0-1") == POLICY
        job = {"job": {"current_working_directory": "/tmp"}, "script": "true\n"}
        status, answer = alice.call("POST", "/jobs/submit/batch", {"jobs": [job, job]})
        assert (status, answer["code"]) == (409, "accounting_policy")
        last = alice.submit("true\n")
        alice.wait_state(last, "COMPLETED")
        alice.call("POST", f"/jobs/cancel/{held[1]}")
    finally:
        admin(system, "modify", "user", "alice", "set", "maxsubmit=-1")
    # 没有关联的用户谁也不是。
    stranger = as_user(system, "mallory")
    status, answer = stranger.call("POST", "/jobs/submit", {"job": {}, "script": "true\n"})
    assert (status, answer["code"]) == (422, "account_unknown")


def test_used_up_minutes_stop_new_jobs_and_end_running_ones(
    system: RunningSystem, alice: RunningSystem, tmp_path: Path
) -> None:
    admin(system, "add", "qos", "metered", "GrpTRESMins=cpu=0")
    allowed(system, "metered")
    first = alice.submit("true\n", qos="metered", time_limit="1")
    waits(alice, first, "QOSGrpCPUMinutesLimit")
    admin(system, "modify", "qos", "metered", "set", "GrpTRESMins=cpu=1")
    alice.wait_state(first, "COMPLETED")
    # 4 个 CPU 跑 15 秒就是 1 分钟：到了就结束，之后的等着。
    greedy = alice.submit(until(tmp_path), qos="metered", tasks=4, time_limit="5")
    ended = alice.wait_state(greedy, wait_s=60)
    assert ended["state"] == "TIMEOUT"
    assert "GrpTRESMins" in ended["error_msg"]
    later = alice.submit("true\n", qos="metered", time_limit="1")
    waits(alice, later, "QOSGrpCPUMinutesLimit")
    admin(system, "modify", "qos", "metered", "set", "GrpTRESMins=cpu=100")
    alice.wait_state(later, "COMPLETED")


def test_running_minutes_free_up_as_time_passes(system: RunningSystem, alice: RunningSystem, tmp_path: Path) -> None:
    admin(system, "add", "qos", "running", "GrpTRESRunMins=cpu=2")
    allowed(system, "running")
    first = alice.submit(until(tmp_path), qos="running", time_limit="1:58")
    alice.wait_state(first, "RUNNING")
    # 还差 118 + 7 - 120 秒：不用等第一个结束，时间过去就够了。
    second = alice.submit("true\n", qos="running", time_limit="0:07")
    waits(alice, second, "QOSGrpCPURunMinutesLimit")
    alice.wait_state(second, "COMPLETED", wait_s=30)
    assert row(alice, first)["state"] == "RUNNING"
    (tmp_path / "go").touch()
    alice.wait_state(first, "COMPLETED")


def test_why_names_the_limit(system: RunningSystem, alice: RunningSystem, tmp_path: Path) -> None:
    admin(system, "add", "qos", "told", "MaxTRESPerUser=cpu=2")
    allowed(system, "told")
    first = alice.submit(until(tmp_path), qos="told")
    alice.wait_state(first, "RUNNING")
    second = alice.submit("true\n", qos="told", tasks=2)
    waits(alice, second, "QOSMaxCpuPerUserLimit")
    assert row(alice, second)["error_msg"] == "等 QOS told 的上限 MaxTRESPerUser（cpu，alice）"
    found = alice.call("GET", f"/jobs/{second}/why")[1]
    assert found["reason"] == "QOSMaxCpuPerUserLimit"
    assert "QOS told 的上限 MaxTRESPerUser（cpu，alice） 不够：要 2，总共 2，还剩 1" in found["text"]
    (limit,) = found["limits"]
    assert (limit["name"], limit["needed"], limit["left"]) == ("qos:told:MaxTRESPerUser:cpu:alice", 2, 1)
    assert [holder["job_id"] for holder in limit["holders"]] == [first]
    (tmp_path / "go").touch()
    alice.wait_state(second, "COMPLETED")
    assert row(alice, second)["error_msg"] is None


def test_an_update_is_checked_like_a_submission(system: RunningSystem, alice: RunningSystem) -> None:
    admin(system, "add", "qos", "tight", "MaxWall=1", "flags=DenyOnLimit")
    allowed(system, "tight")
    job = alice.submit("true\n", hold=True, time_limit="5")
    for changes, code in (
        ({"qos": "nosuch"}, "qos_unknown"),
        ({"account": "lab"}, "account_unknown"),
        ({"qos": "tight"}, "accounting_policy"),
    ):
        status, answer = alice.call("PATCH", f"/jobs/{job}", changes)
        assert (status >= 400, answer["code"]) == (True, code)
    # 管理员可以越过上限，但没有的就是没有。
    assert system.call("PATCH", f"/jobs/{job}", {"qos": "nosuch"})[1]["code"] == "qos_unknown"
    assert system.call("PATCH", f"/jobs/{job}", {"qos": "tight"})[0] == 200
    alice.call("POST", f"/jobs/{job}/release")
    waits(alice, job, "QOSMaxWallDurationPerJobLimit")
    assert alice.call("PATCH", f"/jobs/{job}", {"time_limit": "1"})[0] == 200
    alice.wait_state(job, "COMPLETED")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/qos/%00", None),
        ("PATCH", "/qos/%00", {"priority": 1}),
        ("DELETE", "/accounts/%00", None),
        ("PATCH", "/users/%00", {"admin_level": "None"}),
        ("PATCH", "/qos/normal", {"description": "a\0b"}),
        ("PATCH", "/qos/normal", {"grace_time": None}),
        ("PATCH", "/qos/normal", {"grace_time": -1}),
        ("PATCH", "/qos/normal", {"grp_tres": {"cpu": 1.5}}),
        ("PATCH", "/qos/normal", {"grp_tres": {"cpu": True}}),
        ("PATCH", "/qos/normal", {"grp_tres": {"cpu": [1]}}),
        ("PATCH", "/qos/normal", {"usage_factor": 1e300}),
    ],
)
def test_bad_input_is_an_answer(system: RunningSystem, method: str, path: str, body: dict[str, Any] | None) -> None:
    status, answer = system.call(method, path, body)
    assert status == 422, answer
    assert answer["code"] != "internal_error"
