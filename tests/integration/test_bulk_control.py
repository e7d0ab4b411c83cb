"""一批作业一个请求，与数组里单独一个任务：保留、放行、修改、取消各不牵连。"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem, as_user, second_api, wait_until

NOTHING = "#!/bin/sh\ntrue\n"
LATER = ("-b", "now+1hour")


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def reasons(slurm: Commands, job: str) -> dict[str, str]:
    """squeue 里各行的作业号与原因。"""
    lines = slurm.run("squeue", "-h", "-j", job, "-o", "%i|%r").stdout.splitlines()
    return dict(line.split("|") for line in lines)


def test_holding_one_waiting_task_leaves_the_others_alone(slurm: Commands) -> None:
    job = slurm.submit("-a", "0-5", *LATER, text=NOTHING)
    done = slurm.run("scontrol", "hold", f"{job}_4")
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(
        lambda: reasons(slurm, job) == {f"{job}_[0-3,5]": "BeginTime", f"{job}_4": "JobHeldUser"},
        30,
        "只有 4 号被保留",
    )
    assert slurm.run("scontrol", "release", f"{job}_4").returncode == 0
    wait_until(lambda: reasons(slurm, job).get(f"{job}_4") == "BeginTime", 60, "放行了")
    # 整个保留、放行一个。
    assert slurm.run("scontrol", "hold", job).returncode == 0
    assert slurm.run("scontrol", "release", f"{job}_[1-2]").returncode == 0
    wait_until(
        lambda: (
            reasons(slurm, job)
            == {
                f"{job}_[0,3,5]": "JobHeldUser",
                f"{job}_4": "JobHeldUser",
                f"{job}_1": "BeginTime",
                f"{job}_2": "BeginTime",
            }
        ),
        30,
        "放行了 1、2 号",
    )
    assert slurm.run("scancel", job).returncode == 0
    assert set(slurm.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%t").stdout.split()) == {"CA"}


def test_changing_one_waiting_task_leaves_the_others_alone(slurm: Commands) -> None:
    job = slurm.submit("-a", "1-9:2", *LATER, text=NOTHING)
    other = slurm.submit(*LATER, text=NOTHING)
    changes = ("nice=7", f"dependency=afterany:{other}", "timelimit=3")
    done = slurm.run("scontrol", "update", f"jobid={job}_5", *changes)
    assert (done.returncode, done.stderr) == (0, "")
    rows = slurm.run("squeue", "-h", "-j", job, "-o", "%K|%y|%l|%E").stdout.splitlines()
    assert sorted(rows) == sorted(["1,3,7,9|0|UNLIMITED|(null)", f"5|7|3:00|afterany:{other}(unfulfilled)"])
    pending = slurm.run("scontrol", "requeue", f"{job}_5")
    assert (pending.returncode, pending.stderr) == (1, f"{job}_5: Job is pending execution\n")
    assert slurm.run("scancel", f"{job}_5", f"{job}_[7,9]", other).returncode == 0
    assert slurm.run("squeue", "-h", "-j", job, "-o", "%K").stdout == "1,3\n"
    slurm.run("scancel", job)


def test_split_tasks_run_as_themselves_and_keep_to_the_throttle(slurm: Commands) -> None:
    script = (
        "#!/bin/bash\n#SBATCH -o /dev/null\n"
        f'cd {slurm.work}\nmkdir one || touch "two"\necho "$1" > "task$SLURM_ARRAY_TASK_ID"\nsleep 0.2\nrmdir one\n'
    )
    (slurm.work / "task.sh").write_text(script)
    done = slurm.run("sbatch", "--parsable", "-H", "-a", "0-5%1", "task.sh", "word")
    job = done.stdout.strip()
    assert slurm.run("scontrol", "release", f"{job}_3", f"{job}_4").returncode == 0
    wait_until(lambda: (slurm.work / "task4").exists(), 60, "3、4 号先跑")
    assert slurm.run("scontrol", "release", job).returncode == 0
    tasks = [slurm.work / f"task{number}" for number in range(6)]
    wait_until(
        lambda: slurm.run("sacct", "-nXP", "-j", job, "-o", "State").stdout.split() == ["COMPLETED"] * 6, 60, "都成了"
    )
    assert {task.read_text() for task in tasks} == {"word\n"}
    assert not (slurm.work / "two").exists()


def test_the_throttle_of_a_started_array_can_change(slurm: Commands) -> None:
    job = slurm.submit("-a", "0-3%1", "-o", "/dev/null", text="#!/bin/sh\nsleep 100\n")
    state = ("squeue", "-h", "-r", "-j", job, "-o", "%t")
    wait_until(lambda: slurm.run(*state).stdout.split().count("R") == 1, 60, "一个在跑")
    done = slurm.run("scontrol", "update", f"jobid={job}", "arraytaskthrottle=3")
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: slurm.run(*state).stdout.split().count("R") == 3, 60, "三个在跑")
    # 排队的改得了，在跑的各报一行。
    done = slurm.run("scontrol", "update", f"jobid={job}", "partition=main")
    assert done.returncode == 1
    assert sorted(done.stderr.splitlines()) == [
        f"{job}_{task}: Job is no longer pending execution" for task in range(3)
    ]
    assert slurm.run("scancel", job).returncode == 0
    wait_until(lambda: not slurm.run("squeue", "-h", "-j", job).stdout, 60, "都结束了")


def test_a_thousand_jobs_are_held_released_and_cancelled_by_name(
    slurm: Commands, running_system: RunningSystem
) -> None:
    job = {"name": "crowd, of jobs", "current_working_directory": str(slurm.work), "begin_time": "now+1hour"}
    status, answer = running_system.call(
        "POST", "/jobs/submit/batch", {"jobs": [{"job": job, "script": NOTHING}] * 1000}
    )
    assert status in (200, 201), answer
    ids = answer["job_ids"]

    def states() -> set[str]:
        lines = slurm.run("squeue", "-h", "-t", "all", "-n", "crowd, of jobs", "-o", "%i %t %r").stdout.splitlines()
        found = dict(line.split(" ", 1) for line in lines)
        # 一个作业一行；系统是大家共用的，别的作业不算。
        assert len(found) == len(lines), sorted(lines)
        return {found[job_id] for job_id in ids}

    done = slurm.run("scontrol", "hold", "crowd, of jobs")
    # 逗号分开几个作业：名字里有逗号的要用 jobname=。
    assert done.returncode == 1
    _, answer = running_system.call(
        "POST", "/jobs/control", {"action": "hold", "conditions": {"name": "crowd, of jobs"}}
    )
    assert (len(answer["jobs"]), answer["errors"]) == (1000, [])
    assert states() == {"PD JobHeldUser"}
    _, answer = running_system.call(
        "POST", "/jobs/control", {"action": "release", "conditions": {"name": "crowd, of jobs"}}
    )
    wait_until(lambda: states() == {"PD BeginTime"}, 60, "都放行了")
    done = slurm.run("scancel", "-n", "crowd, of jobs")
    assert (done.returncode, done.stderr) == (0, "")
    assert states() == {"CA None"}


def test_one_bad_job_of_many_is_its_own_error(slurm: Commands, running_system: RunningSystem) -> None:
    one, two = (slurm.submit(*LATER, "-J", "pair", text=NOTHING) for _ in range(2))
    done = slurm.run("scontrol", "hold", f"{one},987654321,{two}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Invalid job id specified for job 987654321"
    assert set(reasons(slurm, f"{one},{two}").values()) == {"JobHeldUser"}
    assert slurm.run("scontrol", "release", "pair").returncode == 0
    missing = slurm.run("scontrol", "hold", "nobody")
    assert (missing.returncode, missing.stderr.splitlines()[0]) == (1, "Invalid job id specified for job nobody")
    for body in ({"action": "hold"}, {"action": "hold", "conditions": {}}, {"action": "signal", "job_ids": [one]}):
        status, answer = running_system.call("POST", "/jobs/control", body)
        assert status == 422, answer
    # 作业号与条件都写了：两者的交。
    _, answer = running_system.call(
        "POST", "/jobs/control", {"action": "cancel", "job_ids": [one, two, "1"], "conditions": {"name": "pair"}}
    )
    assert sorted(job["job_id"] for job in answer["jobs"]) == sorted([one, two])


def test_conditions_of_an_ordinary_user_mean_their_own_jobs(running_system: RunningSystem) -> None:
    alice, bob = as_user(running_system, "alice"), as_user(running_system, "bob")
    job = {"name": "shared name", "hold": True, "current_working_directory": "/tmp"}
    theirs, mine = (
        system.call("POST", "/jobs/submit", {"job": job, "script": NOTHING})[1]["job_id"] for system in (alice, bob)
    )
    body = {"action": "cancel", "conditions": {"name": "shared name"}}
    _, answer = bob.call("POST", "/jobs/control", body)
    assert ([each["job_id"] for each in answer["jobs"]], answer["errors"]) == ([mine], [])
    assert running_system.query(theirs)["state"] == "PENDING"
    # 指名要别人的，照旧说不许。
    _, answer = bob.call("POST", "/jobs/control", {"action": "cancel", "job_ids": [theirs]})
    assert [each["status"] for each in answer["errors"]] == [403]
    _, answer = running_system.call("POST", "/jobs/control", body)
    assert [each["job_id"] for each in answer["jobs"]] == [theirs]


def test_many_at_once_need_no_second_connection(running_system: RunningSystem) -> None:
    # 一个请求占着一条连接再等另一条，两条连接时两个请求就都等不到了。
    body = {"action": "hold", "conditions": {"partition": "elsewhere"}}
    with second_api(running_system, {"SCNS_DATABASE_POOL_SIZE": "1"}) as system, ThreadPoolExecutor(8) as threads:
        statuses = set(threads.map(lambda _: system.call("POST", "/jobs/control", body)[0], range(32)))
    assert statuses == {200}


def test_updating_jobs_by_name_is_one_request_and_each_refusal_its_own(slurm: Commands) -> None:
    name = "named_for_one_update"
    jobs = [slurm.submit("-J", name, *LATER, text=NOTHING) for _ in range(3)]
    array = slurm.submit("-J", name, "-a", "1-3", *LATER, text=NOTHING)
    done = slurm.run("scontrol", "-vv", "update", f"jobname={name}", "nice=9", "timelimit=7")
    assert done.returncode == 0, done.stderr
    assert [line.split(" ")[3] for line in done.stderr.splitlines() if "/jobs" in line and "PATCH" in line] == ["PATCH"]
    shown = slurm.run("squeue", "-h", "-j", ",".join([*jobs, array]), "-o", "%y %l").stdout.splitlines()
    assert shown == ["9 7:00"] * 4
    # 其中一个不许改，别的照改；数组只改一个任务。
    slurm.run("scancel", jobs[0])
    mixed = slurm.run("scontrol", "update", f"jobid={jobs[0]},{jobs[1]},{array}_2,999999999", "nice=3")
    assert mixed.returncode == 1
    assert sorted(mixed.stderr.splitlines()) == sorted(
        [
            f"Job/step already completing or completed for job {jobs[0]}",
            "Invalid job id specified for job 999999999",
        ]
    )
    assert slurm.run("squeue", "-h", "-j", jobs[1], "-o", "%y").stdout == "3\n"
    assert slurm.run("squeue", "-h", "-j", jobs[2], "-o", "%y").stdout == "9\n"
    tasks = slurm.run("squeue", "-h", "-j", array, "-o", "%K %y").stdout.splitlines()
    assert sorted(tasks) == ["1,3 9", "2 3"]
    bad = slurm.run("scontrol", "update", f"jobid={jobs[1]},{jobs[2]}", "partition=nosuch")
    assert (bad.returncode, "Invalid partition name specified" in bad.stderr) == (1, True)
    slurm.run("scancel", *jobs, array)


def progress(system: RunningSystem, job: str) -> dict[str, int]:
    status, answer = system.call("GET", f"/jobs/arrays?job_id={job}")
    assert status == 200, answer
    found: dict[str, int] = answer["arrays"][0]["by_state"]
    return found


def test_a_stepped_part_of_a_huge_array_is_chosen_without_listing_it(
    slurm: Commands, running_system: RunningSystem
) -> None:
    """步长大于 1 的一大部分：与数组同一个步长的是一段；每隔几个取一个的先数后列，太零散的说得清楚。"""
    job = slurm.submit("-H", "-a", "0-999999:3", text=NOTHING)
    done = slurm.run("scancel", f"{job}_[0-499998:3]")
    assert (done.returncode, done.stderr) == (0, "")
    assert progress(running_system, job) == {"CANCELLED": 166_667, "PENDING": 166_667}

    def listed(part: str) -> list[str]:
        status, answer = running_system.call("GET", f"/jobs?job_id={job}_[{part}]&fields=state&sort=job_id")
        assert status == 200, answer
        return [each["state"] for each in answer["jobs"]]

    # 分成了两行；号里的步长与数组的对上才算。
    assert listed("0-999999:9") == ["PENDING", "CANCELLED"]
    assert listed("500001-999999:6") == ["PENDING"]
    assert listed("1-999999:6") == []
    assert running_system.call("GET", f"/jobs/{job}_[500004-999999:6]")[1]["state"] == "PENDING"
    assert running_system.call("GET", f"/jobs/{job}_[1-999999:6]")[0] == 404
    # 保留、修改的各成一行：一次不能几十万行。
    status, answer = running_system.call("POST", f"/jobs/{job}_[500001-999996:3]/hold")
    assert (status, answer["code"]) == (422, "tasks_too_many"), answer
    assert slurm.run("scontrol", "update", f"jobid={job}_[999900-999999:3]", "nice=5").returncode == 0
    # 已经各成一行的任务也选得到。
    assert len(listed("999900-999999:3,500001-999897:3")) == 35
    done = slurm.run("scancel", f"{job}_[2-999998:3]", f"{job}_[500001-999999:3]")
    assert (done.returncode, done.stderr) == (0, "")
    assert progress(running_system, job) == {"CANCELLED": 333_334}


def test_every_other_task_of_a_contiguous_array_is_cancelled(slurm: Commands, running_system: RunningSystem) -> None:
    job = slurm.submit("-H", "-a", "0-299999", text=NOTHING)
    done = slurm.run("scancel", f"{job}_[0-299999:2]")
    assert (done.returncode, done.stderr) == (0, "")
    assert progress(running_system, job) == {"CANCELLED": 150_000, "PENDING": 150_000}
    other = slurm.submit("-H", "-a", "0-999999", text=NOTHING)
    status, answer = running_system.call("POST", f"/jobs/cancel/{other}_[0-999999:2]")
    assert (status, answer["code"]) == (422, "tasks_too_scattered"), answer
    done = slurm.run("scancel", f"{other}_[0-999999:2]")
    assert (done.returncode, "Invalid job array specification" in done.stderr) == (1, True), done.stderr
    # 一批里只是它自己的错误。
    body = {"action": "cancel", "job_ids": [f"{other}_[0-999999:2]", f"{other}_7", job]}
    status, answer = running_system.call("POST", "/jobs/control", body)
    assert [each["code"] for each in answer["errors"]] == ["tasks_too_scattered"]
    assert progress(running_system, job) == {"CANCELLED": 300_000}
    assert progress(running_system, other) == {"CANCELLED": 1, "PENDING": 999_999}
    assert slurm.run("scancel", other).returncode == 0
