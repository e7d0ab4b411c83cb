"""线上的调度：三个节点的真系统，经 HTTP 提交，看作业真的在哪里、按什么次序跑。"""

import itertools
from pathlib import Path
from typing import Any

import pytest

from lent_systems import set_up
from running_system import RunningSystem, wait_until
from scns_conductor.worker.scheduler.reasons import MOST_ROWS


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return set_up(lent_system, licenses="matlab:2")


def show(system: RunningSystem, job_id: str) -> dict[str, Any]:
    status, answer = system.call("GET", f"/jobs/{job_id}")
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def cancel(system: RunningSystem, *job_ids: str) -> None:
    for job_id in job_ids:
        assert system.call("POST", f"/jobs/cancel/{job_id}")[0] == 200
        system.wait_state(job_id)


def wait_reason(system: RunningSystem, job_id: str, reason: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(show(system, job_id))
        return found["reason"] == reason

    wait_until(reached, 60, f"作业 {job_id} 的原因 {reason}，现在 {found.get('reason')}")
    return found


def test_array_tasks_run_once_each_and_respect_the_throttle(system: RunningSystem, tmp_path: Path) -> None:
    script = (
        f"exec 9>{tmp_path}/lock; flock 9; ls {tmp_path}/running.* 2>/dev/null | wc -l >> {tmp_path}/seen; "
        f"touch {tmp_path}/running.$SLURM_ARRAY_TASK_ID; flock -u 9; sleep 0.2; "
        f"rm {tmp_path}/running.$SLURM_ARRAY_TASK_ID; "
        f"echo $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT >> {tmp_path}/ran"
    )
    array = system.submit(script, array="0-9:3,20-23%2")
    wait_until(
        lambda: len((tmp_path / "ran").read_text().split("\n")) == 9 if (tmp_path / "ran").exists() else False, 30
    )
    lines = sorted((tmp_path / "ran").read_text().split("\n"))[1:]
    assert sorted(int(line.split()[1]) for line in lines) == [0, 3, 6, 9, 20, 21, 22, 23]
    assert {line.split()[0] for line in lines} == {array}
    assert {line.split()[2] for line in lines} == {"8"}
    assert max(int(count) for count in (tmp_path / "seen").read_text().split()) <= 1
    wait_until(
        lambda: {job["state"] for job in system.call("GET", f"/jobs?job_id={array}")[1]["jobs"]} == {"COMPLETED"}, 20
    )
    assert len(system.call("GET", f"/jobs?job_id={array}")[1]["jobs"]) == 8


def test_a_stepped_array_is_one_range_and_goes_by_its_task_ids(system: RunningSystem, tmp_path: Path) -> None:
    """等步长的数组：取消、查询、依赖、显示都按任务号，不在里面的号不存在；三十三万个任务也是一个区间。"""
    array = system.submit(f"echo $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_STEP >> {tmp_path}/ran",
                          array="4-22:3%2", hold=True)  # fmt: skip
    follower = system.submit("true", array="4-22:3", dependency=f"aftercorr:{array}")
    listed = f"/jobs?job_id={array}&fields=state,array_task_id,array_remaining"
    assert system.call("GET", listed)[1]["jobs"][0]["array_remaining"] == "4-22:3"
    assert system.call("GET", f"/jobs/{array}_10")[0] == 200
    for absent in ("5", "1", "25", "[5-6]"):
        assert system.call("POST", f"/jobs/cancel/{array}_{absent}")[0] == 404
    assert system.call("POST", f"/jobs/cancel/{array}_10")[0] == 200
    assert system.call("POST", f"/jobs/cancel/{array}_[15-20]")[0] == 200
    found = {job["state"]: [] for job in system.call("GET", listed)[1]["jobs"]}  # type: ignore[var-annotated]
    for job in system.call("GET", listed)[1]["jobs"]:
        found[job["state"]].append((job["array_task_id"], job["array_remaining"]))
    assert sorted(found["PENDING"]) == [(None, "4-7:3,13,22")]
    assert sorted(found["CANCELLED"], key=str) == [(10, None), (None, "16-19:3")]
    assert system.call("POST", f"/jobs/{array}/release")[0] == 200
    wait_until(lambda: (tmp_path / "ran").exists() and len((tmp_path / "ran").read_text().split("\n")) == 5, 60)
    assert sorted((tmp_path / "ran").read_text().split("\n"))[1:] == ["13 3", "22 3", "4 3", "7 3"]

    def states() -> dict[int, str]:
        jobs = system.call("GET", f"/jobs?job_id={follower}&fields=state,array_task_id")[1]["jobs"]
        return {job["array_task_id"]: job["state"] for job in jobs if job["array_task_id"] is not None}

    wait_until(lambda: states() == dict.fromkeys((4, 7, 13, 22), "COMPLETED"), 60, "aftercorr")
    rest = system.call("GET", f"/jobs?job_id={follower}&state=PENDING&fields=array_remaining")[1]["jobs"]
    assert [job["array_remaining"] for job in rest] == ["10,16-19:3"]
    cancel(system, follower)
    huge = system.submit("true", array="0-999999:3%50", hold=True)
    shown = system.call("GET", f"/jobs/{huge}")[1]
    assert (shown["array_remaining"], shown["array_max_tasks"]) == ("0-999999:3", 50)
    cancel(system, huge)


def test_an_array_of_unlike_steps_is_one_range_too(system: RunningSystem, tmp_path: Path) -> None:
    """步长不一、错开成许多段的：显示照写法，取消、查询、拆开、依赖都按任务号，从小到大启动，几项里都有的只算一个。"""
    steps = "0-3000:3,7-5000:5"
    tasks = sorted({*range(0, 3001, 3), *range(7, 5001, 5)})
    array = system.submit(f"echo $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT $SLURM_ARRAY_TASK_MAX >> {tmp_path}/ran",
                          array=f"{steps}%2", hold=True)  # fmt: skip
    follower = system.submit("true", array=steps, dependency=f"aftercorr:{array}")
    listed = f"/jobs?job_id={array}&fields=job_id,state,array_task_id,array_remaining"

    def rows(state: str) -> list[Any]:
        jobs = system.call("GET", f"{listed}&state={state}")[1]["jobs"]
        return sorted(((job["array_task_id"], job["array_remaining"]) for job in jobs), key=str)

    assert rows("PENDING") == [(None, "0-3000:3,7-4997:5")]
    assert system.call("GET", f"/jobs/{array}_7")[0] == system.call("GET", f"/jobs/{array}_4997")[0] == 200
    for absent in ("1", "5", "5002", "[1-2]", "[4,5]"):
        assert system.call("GET", f"/jobs/{array}_{absent}")[0] == 404, absent
        assert system.call("POST", f"/jobs/cancel/{array}_{absent}")[0] == 404, absent
        assert system.call("GET", f"/jobs?job_id={array}_{absent}")[1]["jobs"] == []
    assert len(system.call("GET", f"/jobs?job_id={array}_12")[1]["jobs"]) == 1
    # 12 两项里都有。
    assert system.call("POST", f"/jobs/cancel/{array}_12")[0] == 200
    assert rows("PENDING") == [(None, "0-9:3,7,15-3000:3,17-4997:5")]
    assert system.call("POST", f"/jobs/cancel/{array}_[16-5000]")[0] == 200
    assert rows("PENDING") == [(None, "0-9:3,7,15")]
    assert rows("CANCELLED") == [(12, None), (None, "17-4997:5,18-3000:3")]
    assert system.call("PATCH", f"/jobs/{array}_6", {"nice": 100})[0] == 200
    assert rows("PENDING") == [(6, None), (None, "0-3:3,7,9,15")]
    assert system.call("POST", f"/jobs/{array}/release")[0] == 200
    wait_until(lambda: (tmp_path / "ran").exists() and len((tmp_path / "ran").read_text().split("\n")) == 7, 60)
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted(int(line[0]) for line in ran) == [0, 3, 6, 7, 9, 15]
    assert {tuple(line[1:]) for line in ran} == {(str(len(tasks)), "4997")}

    def states() -> dict[int, str]:
        jobs = system.call("GET", f"/jobs?job_id={follower}&fields=state,array_task_id")[1]["jobs"]
        return {job["array_task_id"]: job["state"] for job in jobs if job["array_task_id"] is not None}

    wait_until(lambda: states() == dict.fromkeys((0, 3, 6, 7, 9, 15), "COMPLETED"), 60, "aftercorr")
    cancel(system, follower)
    # Slurm 在 MaxArraySize 的最大值之内收的都收。
    huge = system.submit("true", array="0-4000000:3,7-4000000:5%50", hold=True)
    shown = system.call("GET", f"/jobs/{huge}")[1]
    assert (shown["array_remaining"], shown["array_max_tasks"]) == ("0-3999999:3,7-3999997:5", 50)
    cancel(system, huge)
    whole = system.submit("true", array="0-4000000", hold=True)
    cancel(system, whole)


def test_dependencies_follow_the_outcome(system: RunningSystem) -> None:
    bad = system.submit("sleep 0.3; exit 1")
    after_ok = system.submit("true", dependency=f"afterok:{bad}")
    after_any = system.submit("true", dependency=f"afterany:{bad}")
    after_not_ok = system.submit("true", dependency=f"afternotok:{bad}")
    killed = system.submit("true", dependency=f"afterok:{bad}", kill_on_invalid_dependency=True)
    either = system.submit("true", dependency=f"afterok:{bad}?afterany:{bad}")
    for job_id in (after_any, after_not_ok, either):
        assert system.wait_state(job_id)["state"] == "COMPLETED"
        assert show(system, job_id)["start_time"] >= show(system, bad)["end_time"]
    wait_reason(system, after_ok, "DependencyNeverSatisfied")
    assert system.wait_state(killed)["state"] == "CANCELLED"
    cancel(system, after_ok)


def test_singletons_run_one_after_another(system: RunningSystem) -> None:
    jobs = [system.submit("sleep 0.2", name="only-one", dependency="singleton") for _ in range(3)]
    for job_id in jobs:
        assert system.wait_state(job_id)["state"] == "COMPLETED"
    shown = [show(system, job_id) for job_id in jobs]
    assert all(later["start_time"] >= earlier["end_time"] for earlier, later in itertools.pairwise(shown))


def test_several_nodes_are_allocated_together(system: RunningSystem) -> None:
    job_id = system.submit("echo $SLURM_JOB_NODELIST $SLURM_NNODES $SLURM_TASKS_PER_NODE", nodes="3", ntasks=6)
    answer = system.wait_state(job_id)
    assert answer["job_log"]["stdout"] == "node[1-3] 3 2(x3)\n"
    assert answer["detail"]["allocated_nodes"] == 3
    assert answer["detail"]["allocated_cpus"] == 6
    nodes = system.call("GET", "/nodes")[1]["nodes"]
    wait_until(lambda: all(node["allocated_cpus"] == 0 for node in system.call("GET", "/nodes")[1]["nodes"]), 60)
    assert len(nodes) == 3


def test_gpus_are_given_out_and_never_twice(system: RunningSystem) -> None:
    jobs = [
        system.submit("echo gpus=$CUDA_VISIBLE_DEVICES; sleep 0.5", gres="gpu:1", required_nodes="node2", name="gpu")
        for _ in range(4)
    ]
    outputs = [system.wait_state(job_id)["job_log"]["stdout"] for job_id in jobs]
    assert set(outputs) == {"gpus=0\n", "gpus=1\n"}
    status, refused = system.call("POST", "/jobs/submit", {"job": {"gres": "gpu:3"}, "script": "true"})
    assert (status, refused["code"]) == (422, "node_limits_exceeded")
    assert "3 个 gpu" in refused["detail"]


def test_a_small_job_backfills_but_a_long_one_does_not_delay_the_reservation(system: RunningSystem) -> None:
    blockers = [system.submit("sleep 4", cpus_per_task=3, time_limit="9") for _ in range(3)]
    for job_id in blockers:
        system.wait_state(job_id, "RUNNING")
    whole = system.submit("true", nodes="3", exclusive=True, time_limit="5")
    reserved = wait_reason(system, whole, "Resources")
    assert reserved["expected_start_time"] is not None
    long = system.submit("true", time_limit="60")
    short = system.submit("true", time_limit="0:10")
    assert system.wait_state(short)["state"] == "COMPLETED"
    assert show(system, long)["state"] == "PENDING"
    status, why = system.call("GET", f"/jobs/{long}/why")
    assert status == 200
    assert whole in why["jobs_ahead"]
    assert "推迟" in why["text"]
    assert any("time_limit" in item["changes"] for item in why["suggestions"]), why
    assert system.wait_state(whole)["state"] == "COMPLETED"
    assert system.wait_state(long)["state"] == "COMPLETED"
    assert show(system, long)["start_time"] >= show(system, whole)["start_time"]


def test_licenses_limit_how_many_run_at_once(system: RunningSystem) -> None:
    jobs = [system.submit("sleep 0.5", licenses="matlab") for _ in range(3)]
    for job_id in jobs:
        assert system.wait_state(job_id)["state"] == "COMPLETED"
    shown = sorted((show(system, job_id) for job_id in jobs), key=lambda job: job["start_time"])
    assert shown[2]["start_time"] >= min(shown[0]["end_time"], shown[1]["end_time"])


def test_a_change_takes_effect_in_the_next_cycle(system: RunningSystem) -> None:
    blockers = [system.submit("sleep 30", exclusive=True, time_limit="5") for _ in range(3)]
    for job_id in blockers[:2]:
        system.wait_state(job_id, "RUNNING")
    cancel(system, blockers[2])
    busy = show(system, blockers[0])["node_list"]
    stuck = system.submit("true", required_nodes=busy)
    wait_reason(system, stuck, "Resources")
    status, refused = system.call("PATCH", f"/jobs/{stuck}", {"cpus_per_task": 64})
    assert (status, refused["code"]) == (422, "cpus_exceed_partition")
    assert system.call("PATCH", f"/jobs/{stuck}", {"required_nodes": None})[0] == 200
    assert system.wait_state(stuck)["state"] == "COMPLETED"
    cancel(system, *blockers[:2])


def test_a_partition_limits_its_jobs(system: RunningSystem) -> None:
    created = system.call("POST", "/partitions", {"name": "short", "nodes": "node3", "max_time": "10"})
    assert created[0] == 201, created
    too_long = system.submit("true", partition="short", time_limit="60")
    wait_reason(system, too_long, "PartitionTimeLimit")
    here = system.submit("true", partition="short")
    assert system.wait_state(here)["detail"]["node_list"] == "node3"
    assert system.call("PATCH", "/partitions/short", {"max_time": "UNLIMITED"})[0] == 200
    assert system.wait_state(too_long)["state"] == "COMPLETED"
    assert system.call("PATCH", "/partitions/short", {"state": "DOWN"})[0] == 200
    held = system.submit("true", partition="short")
    wait_reason(system, held, "PartitionDown")
    cancel(system, held)
    assert system.call("DELETE", "/partitions/short")[0] == 204


def test_begin_time_and_deadline(system: RunningSystem) -> None:
    later = system.submit("true", begin_time="now+2")
    assert system.wait_state(later)["state"] == "COMPLETED"
    shown = show(system, later)
    assert shown["start_time"] >= shown["begin_time"]
    job = {"deadline": "now+30", "time_limit": "10"}
    status, refused = system.call("POST", "/jobs/submit", {"job": job, "script": "true"})
    assert (status, refused["code"]) == (422, "deadline_unreachable")


def test_a_job_that_can_no_longer_make_its_deadline_ends(system: RunningSystem) -> None:
    blocker = system.submit("sleep 60", required_nodes="node2", exclusive=True)
    system.wait_state(blocker, "RUNNING")
    waiting = system.submit("true", required_nodes="node2", deadline="now+5", time_limit="0:03")
    assert system.wait_state(waiting, wait_s=20)["state"] == "DEADLINE"
    shown = show(system, waiting)
    assert shown["end_time"] <= shown["deadline"]
    cancel(system, blocker)


def test_a_node_taken_down_loses_its_jobs_and_a_resumed_one_runs_again(system: RunningSystem) -> None:
    job_id = system.submit("sleep 60", required_nodes="node1", requeue=False)
    system.wait_state(job_id, "RUNNING")
    assert system.call("PATCH", "/nodes/node1", {"state": "DOWN", "reason": "更换内存"})[0] == 200
    answer = system.wait_state(job_id, wait_s=40)
    assert answer["state"] == "NODE_FAIL"
    assert "下线" in answer["error_msg"]
    assert system.call("PATCH", "/nodes/node1", {"state": "RESUME"})[0] == 200
    again = system.submit("true", required_nodes="node1")
    assert system.wait_state(again)["state"] == "COMPLETED"


def test_plan_answers_without_leaving_a_job(system: RunningSystem) -> None:
    before = system.call("GET", "/jobs?limit=1")[1]["jobs"][0]["job_id"]
    status, answer = system.call("POST", "/jobs/plan", {"job": {"cpus_per_task": 2}, "script": "#!/bin/sh\n"})
    assert status == 200, answer
    assert answer["start_time"] is not None
    assert set(answer["nodes"]) <= {"node1", "node2", "node3"}
    status, answer = system.call("POST", "/jobs/plan", {"job": {"cpus_per_task": 64}, "script": "#!/bin/sh\n"})
    assert (status, answer["code"]) == (422, "cpus_exceed_partition")
    assert "64" in answer["detail"]
    assert system.call("GET", "/jobs?limit=1")[1]["jobs"][0]["job_id"] == before


@pytest.mark.parametrize(
    ("job", "field", "code"),
    [
        ({"memory_per_node": "9G"}, "memory_per_node", "memory_not_satisfiable"),
        ({"cpus_per_task": 5}, "cpus_per_task", "cpus_not_satisfiable"),
        ({"nodes": 4}, "minimum_nodes", "node_count_invalid"),
        ({"required_nodes": "node9"}, "required_nodes", "node_unknown"),
        ({"constraints": "nosuch"}, "constraints", "feature_unknown"),
        ({"gres": "fpga:1"}, "tres_per_node", "gres_unknown"),
        ({"licenses": "ansys"}, "licenses", "license_unknown"),
        ({"licenses": "matlab:3"}, "licenses", "license_exceeded"),
        ({"deadline": "2001-01-01"}, "deadline", "deadline_past"),
        ({"time_limit": "5", "time_minimum": "6"}, "time_minimum", "time_minimum_exceeds_limit"),
        ({"distribution": "nope"}, "distribution", "invalid_field"),
    ],
)
def test_a_job_that_can_never_run_is_refused_at_once(
    system: RunningSystem, job: dict[str, Any], field: str, code: str
) -> None:
    status, answer = system.call("POST", "/jobs/submit", {"job": job, "script": "true"})
    assert (status, answer["code"]) == (422, code), answer
    assert answer["errors"][0]["field"] == f"job.{field}"
    good = {"job": {}, "script": "true"}
    status, answer = system.call("POST", "/jobs/submit/batch", {"jobs": [good, {"job": job, "script": "true"}]})
    assert (status, answer["code"]) == (422, code), answer
    assert answer["errors"][0]["field"] == f"jobs[1].job.{field}"


def test_a_job_for_nodes_that_are_only_drained_is_accepted(system: RunningSystem) -> None:
    assert system.call("PATCH", "/nodes/node3", {"state": "DRAIN", "reason": "换盘"})[0] == 200
    job_id = system.submit("true", required_nodes="node3")
    everywhere = system.submit("true", nodes=3)
    assert "UnavailableNodes:node3" in wait_reason(system, job_id, "ReqNodeNotAvail")["error_msg"]
    assert "UnavailableNodes:node3" in wait_reason(system, everywhere, "ReqNodeNotAvail")["error_msg"]
    assert system.call("PATCH", "/nodes/node3", {"state": "RESUME"})[0] == 200
    assert system.wait_state(job_id)["detail"]["node_list"] == "node3"
    assert system.wait_state(everywhere)["state"] == "COMPLETED"


def test_dependencies_may_not_go_in_circles(system: RunningSystem) -> None:
    first = system.submit("true", hold=True)
    second = system.submit("true", dependency=f"afterok:{first}")
    third = system.submit("true", dependency=f"afterany:{second}")
    status, answer = system.call("PATCH", f"/jobs/{first}", {"dependency": f"afterok:{third}"})
    assert (status, answer["code"]) == (422, "dependency_circular")
    assert second in answer["detail"]
    status, answer = system.call("PATCH", f"/jobs/{first}", {"dependency": f"afterok:{first}"})
    assert (status, answer["code"]) == (422, "dependency_self")
    cancel(system, first, second, third)


def test_aftercorr_starts_each_task_when_its_twin_succeeded(system: RunningSystem, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = system.submit(
        f"case $SLURM_ARRAY_TASK_ID in 1) exit 1;; 2) while [ ! -e {gate} ]; do sleep 0.1; done;; esac", array="0-2"
    )
    second = system.submit(f"touch {tmp_path}/ran.$SLURM_ARRAY_TASK_ID", array="0-2", dependency=f"aftercorr:{first}")
    wait_until((tmp_path / "ran.0").exists, 60, "第 0 个任务")
    # 第 2 个还没有成功，第 1 个永远不会成功：第 0 个已经跑完，这两个还在等。
    wait_reason(system, f"{second}_1", "Dependency")
    assert sorted(path.name for path in tmp_path.glob("ran.*")) == ["ran.0"]
    gate.touch()
    wait_until((tmp_path / "ran.2").exists, 60, "第 2 个任务")
    wait_reason(system, f"{second}_1", "DependencyNeverSatisfied")
    assert not (tmp_path / "ran.1").exists()
    cancel(system, f"{second}_1")


def test_after_starts_when_the_other_starts_and_one_array_task_may_be_named(system: RunningSystem) -> None:
    held = system.submit("sleep 20", hold=True)
    dependent = system.submit("true", dependency=f"after:{held}")
    # 原因在提交时就写下，等的是谁由调度器补上。
    wait_until(lambda: held in (show(system, dependent)["error_msg"] or ""), 60, "说明里有所等的作业")
    assert system.call("POST", f"/jobs/{held}/release")[0] == 200
    assert system.wait_state(dependent)["state"] == "COMPLETED"
    assert show(system, held)["state"] == "RUNNING"
    array = system.submit("sleep 0.$SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID", array="0-1")
    good = system.submit("true", dependency=f"afterok:{array}_0")
    bad = system.submit("true", dependency=f"afternotok:{array}_1")
    for job_id in (good, bad):
        assert system.wait_state(job_id)["state"] == "COMPLETED"
    cancel(system, held)


def test_every_one_of_many_waiting_jobs_is_told_why(system: RunningSystem) -> None:
    """一次至多写 MOST_ROWS 个：比它多的也都有原因。"""
    many = MOST_ROWS + 100
    blockers = [system.submit("sleep 60", exclusive=True, time_limit="5") for _ in range(3)]
    for job_id in blockers:
        system.wait_state(job_id, "RUNNING")
    jobs = [{"job": {"cpus_per_task": 1 + number % 2, "name": "many"}, "script": "true"} for number in range(many)]
    status, answer = system.call("POST", "/jobs/submit/batch", {"jobs": jobs})
    assert status == 200, answer
    first, last = answer["job_ids"][0], answer["job_ids"][-1]
    wait_reason(system, last, "Priority")
    assert show(system, first)["reason"] == "Resources"
    cursor, waiting = "", []
    while cursor is not None:
        status, answer = system.call("GET", f"/jobs?name=many&limit=1000&fields=job_id,reason&cursor={cursor}")
        assert status == 200, answer
        waiting += answer["jobs"]
        cursor = answer["next_cursor"]
    assert {job["reason"] for job in waiting} <= {"Priority", "Resources"}
    assert len(waiting) == many
    status, answer = system.call("POST", "/jobs/control", {"action": "cancel", "conditions": {"name": "many"}})
    assert (status, answer["errors"], len(answer["jobs"])) == (200, [], many)
    cancel(system, *blockers)


def test_a_job_keeps_to_its_number_of_switches_until_it_has_waited_long_enough(system: RunningSystem) -> None:
    for name, path in {"node1": "root/a", "node2": "root/a", "node3": "root/b"}.items():
        assert system.call("PATCH", f"/nodes/{name}", {"topology": path})[0] == 200
    close = system.submit("true", nodes=2, required_switches=1)
    assert system.wait_state(close)["detail"]["node_list"] == "node[1-2]"
    blocker = system.submit("sleep 60", required_nodes="node1", exclusive=True)
    system.wait_state(blocker, "RUNNING")
    patient = system.submit("true", nodes=2, required_switches=1)
    hasty = system.submit("true", nodes=2, required_switches=1, maximum_switch_wait_time=2)
    assert system.wait_state(hasty)["detail"]["node_list"] == "node[2-3]"
    shown = show(system, hasty)
    assert shown["required_switches"] == 1
    assert show(system, patient)["state"] == "PENDING"
    assert system.call("PATCH", f"/jobs/{patient}", {"required_switches": 2})[0] == 200
    assert system.wait_state(patient)["detail"]["node_list"] == "node[2-3]"
    cancel(system, blocker)
    for name in ("node1", "node2", "node3"):
        assert system.call("PATCH", f"/nodes/{name}", {"topology": ""})[0] == 200


def test_a_shorter_limit_is_taken_when_the_job_allows_it(system: RunningSystem) -> None:
    blockers = [system.submit("sleep 5", cpus_per_task=3, time_limit="10") for _ in range(3)]
    for job_id in blockers:
        system.wait_state(job_id, "RUNNING")
    whole = system.submit("true", nodes=3, exclusive=True, time_limit="5")
    wait_reason(system, whole, "Resources")
    flexible = system.submit("true", time_limit="600", time_minimum="1")
    assert system.wait_state(flexible)["state"] == "COMPLETED"
    assert show(system, whole)["state"] == "PENDING"
    assert 60 <= show(system, flexible)["time_limit"] <= 600
    assert system.wait_state(whole)["state"] == "COMPLETED"


def test_of_several_partitions_the_one_that_can_start_it_first_counts(system: RunningSystem) -> None:
    for name, more in {
        "whole": {"nodes": "node1", "exclusive": True, "priority_tier": 5},
        "narrow": {"nodes": "node[2-3]", "max_cpus_per_node": 2, "max_time": "10"},
    }.items():
        created = system.call("POST", "/partitions", {"name": name, **more})
        assert created[0] == 201, created
    first = system.submit("sleep 60", partition="narrow,whole", time_limit="5")
    shown = system.wait_state(first, "RUNNING")["detail"]
    assert (shown["partition"], shown["node_list"], shown["allocated_cpus"]) == ("whole", "node1", 4)
    second = system.submit("sleep 60", partition="narrow,whole", time_limit="5")
    shown = system.wait_state(second, "RUNNING")["detail"]
    assert (shown["partition"], shown["allocated_cpus"]) == ("narrow", 1)
    # 一个作业不能跨两个分区，也不能超过 narrow 的每节点 2 个 CPU：等 whole 空出来。
    wide = system.submit("true", partition="narrow,whole", cpus_per_task=3, time_limit="5")
    # narrow 的时限不许：只剩 whole。
    long = system.submit("true", partition="narrow,whole", time_limit="30")
    both = {"job": {"partition": "narrow,whole", "nodes": 3}, "script": "true"}
    assert system.call("POST", "/jobs/submit", both)[1]["code"] == "node_count_invalid"
    for job_id in (wide, long):
        assert "node1" in system.call("GET", f"/jobs/{job_id}/why")[1]["text"]
        assert show(system, job_id)["state"] == "PENDING"
    cancel(system, first)
    for job_id in (wide, long):
        assert system.wait_state(job_id)["detail"]["partition"] == "whole"
    cancel(system, second)
    for name in ("whole", "narrow"):
        assert system.call("DELETE", f"/partitions/{name}")[0] == 204


def test_the_listed_partitions_come_back_on_requeue(system: RunningSystem) -> None:
    """重新排队的又是提交时列的各个分区（Slurm 也是）：单个作业、数组任务、结束了的；改过分区的照改过的。"""
    for name, nodes in (("one", "node1"), ("two", "node2")):
        assert system.call("POST", "/partitions", {"name": name, "nodes": nodes})[0] == 201
    single = system.submit("sleep 60", partition="two,one", time_limit="5")
    array = system.submit("sleep 60", partition="two,one", time_limit="5", array="0-1", cpus_per_task=2)
    tasks = [f"{array}_{index}" for index in (0, 1)]
    for job_id in (single, *tasks):
        system.wait_state(job_id, "RUNNING")
        assert show(system, job_id)["partition"] in ("one", "two")
    assert show(system, single)["partition"] == "two"
    for name in ("one", "two"):
        assert system.call("PATCH", f"/partitions/{name}", {"state": "DOWN"})[0] == 200
    for job_id in (single, *tasks):
        assert system.call("POST", f"/jobs/{job_id}/requeue")[0] == 200
    for job_id in (single, *tasks):
        wait_until(lambda job_id=job_id: show(system, job_id)["reason"] == "PartitionDown", 60, "停着的分区")  # type: ignore[misc]
        assert show(system, job_id)["partition"] == "two,one"
    # 现在只有 one 能用：不记得原来列的就再也启动不了。
    assert system.call("PATCH", "/partitions/one", {"state": "UP"})[0] == 200
    system.wait_state(single, "RUNNING")
    assert show(system, single)["partition"] == "one"
    cancel(system, single, array)
    assert system.call("PATCH", "/partitions/one", {"state": "DOWN"})[0] == 200
    assert system.call("POST", f"/jobs/{single}/requeue")[0] == 200
    assert show(system, single)["partition"] == "two,one"
    assert system.call("PATCH", f"/jobs/{single}", {"partition": "main"})[0] == 200
    system.wait_state(single, "RUNNING")
    count = show(system, single)["restart_count"]
    assert system.call("POST", f"/jobs/{single}/requeue")[0] == 200
    wait_until(lambda: show(system, single)["restart_count"] > count, 60, "重新排队")
    system.wait_state(single, "RUNNING")
    assert show(system, single)["partition"] == "main"
    cancel(system, single)
    for name in ("one", "two"):
        assert system.call("DELETE", f"/partitions/{name}")[0] == 204
