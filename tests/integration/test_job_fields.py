"""作业能写的每一种要求，经 POST /jobs/submit、scns submit 与 sbatch 三条路，看真正分到的是不是要的。"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import warm_commands
from lent_systems import set_up
from running_system import RunningSystem, wait_until
from scns_conductor.slurm.install import install

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    running = set_up(lent_system, licenses="matlab:2")
    install(running.data_dir.parent / "bin", sys.executable)
    (running.data_dir / "job.sh").write_text("#!/bin/sh\ntrue\n")
    for name, features in {"node1": ["fast"], "node2": ["fast", "big"], "node3": ["big"]}.items():
        assert running.call("PATCH", f"/nodes/{name}", {"features": features})[0] == 200
    return running


def by_api(system: RunningSystem, job: dict[str, Any], options: list[str]) -> str:
    return system.submit("#!/bin/sh\ntrue\n", **job)


def by_scns(system: RunningSystem, job: dict[str, Any], options: list[str]) -> str:
    return json.loads(run(system, [str(BIN / "scns"), "submit", "--json", *options, "job.sh"]))["job_id"]


def by_sbatch(system: RunningSystem, job: dict[str, Any], options: list[str]) -> str:
    return run(system, [str(system.data_dir.parent / "bin" / "sbatch"), "--parsable", *options, "job.sh"]).strip()


def run(system: RunningSystem, words: list[str]) -> str:
    environment = {**system.environment, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = warm_commands.run(words, cwd=system.data_dir, env=environment)
    assert done.returncode == 0, done
    return done.stdout


Way = Callable[[RunningSystem, dict[str, Any], list[str]], str]


def node_names(job: dict[str, Any]) -> list[str]:
    return sorted(part["node_name"] for part in job["allocations"])


def each(job: dict[str, Any], name: str) -> list[Any]:
    return [part[name] for part in job["allocations"]]


def gpus(job: dict[str, Any]) -> int:
    return sum(count for part in job["allocations"] for name, count in part["gres"].items() if name.startswith("gpu"))


CASES: list[tuple[dict[str, Any], list[str], Callable[[dict[str, Any]], bool]]] = [
    ({"nodes": "2-3"}, ["-N", "2-3"], lambda job: 2 <= len(node_names(job)) <= 3),
    (
        {"ntasks": 4, "ntasks_per_node": 2},
        ["-n", "4", "--ntasks-per-node=2"],
        lambda job: each(job, "tasks") == [2, 2],
    ),
    ({"ntasks": 3, "nodes": 1}, ["-n3", "-N1"], lambda job: (each(job, "tasks"), each(job, "cpus")) == ([3], [3])),
    ({"cpus_per_task": 3}, ["-c", "3"], lambda job: each(job, "cpus") == [3]),
    ({"minimum_cpus_per_node": 4}, ["--mincpus=4"], lambda job: each(job, "cpus") == [4]),
    ({"memory_per_node": "1G"}, ["--mem=1G"], lambda job: each(job, "memory") == [1024]),
    ({"memory_per_node": 0}, ["--mem=0"], lambda job: each(job, "memory") == [8192]),
    (
        {"memory_per_cpu": "256M", "cpus_per_task": 2},
        ["--mem-per-cpu=256M", "-c2"],
        lambda job: each(job, "memory") == [512],
    ),
    (
        {"memory_per_gpu": "300M", "tres_per_node": "gres/gpu:2"},
        ["--mem-per-gpu=300M", "--gpus-per-node=2"],
        lambda job: (each(job, "memory"), gpus(job)) == ([600], 2),
    ),
    ({"gres": "gpu:1"}, ["--gres=gpu:1"], lambda job: gpus(job) == 1),
    (
        {"tres_per_task": "gres/gpu:1", "ntasks": 2, "nodes": 1},
        ["--gpus-per-task=1", "-n2", "-N1"],
        lambda job: (gpus(job), len(node_names(job))) == (2, 1),
    ),
    ({"tres_per_job": "gres/gpu:2"}, ["--gpus=2"], lambda job: gpus(job) == 2),
    ({"exclusive": True}, ["--exclusive"], lambda job: (each(job, "cpus"), gpus(job)) == ([4], 2)),
    ({"constraints": "fast&big"}, ["-C", "fast&big"], lambda job: node_names(job) == ["node2"]),
    ({"constraints": "fast|big", "nodes": 3}, ["-C", "fast|big", "-N3"], lambda job: len(node_names(job)) == 3),
    (
        {"constraints": "[fast|big]", "nodes": 2},
        ["-C", "[fast|big]", "-N2"],
        lambda job: node_names(job) in (["node1", "node2"], ["node2", "node3"]),
    ),
    (
        {"constraints": "fast*1&big*1", "nodes": 2},
        ["-C", "fast*1&big*1", "-N2"],
        lambda job: {"node2"} < set(node_names(job)) or node_names(job) == ["node1", "node3"],
    ),
    ({"required_nodes": "node3"}, ["-w", "node3"], lambda job: node_names(job) == ["node3"]),
    ({"excluded_nodes": "node[1-2]"}, ["-x", "node[1-2]"], lambda job: node_names(job) == ["node3"]),
    ({"licenses": "matlab:2"}, ["-L", "matlab:2"], lambda job: job["licenses"] == "matlab:2"),
    ({"temporary_disk_per_node": "1M"}, ["--tmp=1M"], lambda job: job["temporary_disk_per_node"] == 1),
    ({"begin_time": "now+1"}, ["--begin=now+1"], lambda job: job["start_time"] >= job["begin_time"]),
    (
        {"deadline": "now+1hour", "time_limit": "10", "time_minimum": "5"},
        ["--deadline=now+1hour", "-t10", "--time-min=5"],
        lambda job: (job["time_limit"], job["time_minimum"]) == (600, 300) and job["end_time"] <= job["deadline"],
    ),
    ({"nice": 7}, ["--nice=7"], lambda job: job["nice"] == 7),
    ({"priority": 99}, ["--priority=99"], lambda job: job["priority"] == 99),
    (
        {"required_switches": 1, "maximum_switch_wait_time": 60},
        ["--switches=1@1"],
        lambda job: (job["required_switches"], job["maximum_switch_wait_time"]) == (1, 60),
    ),
]


@pytest.mark.parametrize("way", [by_api, by_scns, by_sbatch])
def test_what_is_asked_for_is_what_is_allocated(system: RunningSystem, way: Way) -> None:
    wrong = []
    for job, options, good in CASES:
        job_id = way(system, job, options)
        system.wait_state(job_id)
        status, shown = system.call("GET", f"/jobs/{job_id}")
        assert status == 200, shown
        if shown["state"] != "COMPLETED" or not good(shown):
            wrong.append((options, shown))
    assert not wrong


@pytest.mark.parametrize("way", [by_api, by_scns, by_sbatch])
def test_an_array_with_a_step_and_a_throttle(system: RunningSystem, way: Way) -> None:
    job_id = way(system, {"array": "0-6:2%2"}, ["--array=0-6:2%2"])
    wait_until(lambda: finished(system, job_id) == {0, 2, 4, 6}, 60, "数组的全部任务")
    assert system.call("GET", f"/jobs/{job_id}")[1]["array_max_tasks"] == 2


def finished(system: RunningSystem, job_id: str) -> set[int]:
    jobs = system.call("GET", f"/jobs?job_id={job_id}&state=COMPLETED")[1]["jobs"]
    return {job["array_task_id"] for job in jobs}


def test_a_million_tasks_are_one_row_and_some_of_them_can_be_cancelled(system: RunningSystem) -> None:
    job_id = system.submit("true", array="0-999999:3%50", hold=True)
    jobs = system.call("GET", f"/jobs?job_id={job_id}")[1]["jobs"]
    assert len(jobs) == 1
    assert system.call("POST", f"/jobs/cancel/{job_id}_[3-999999]")[0] == 200
    assert system.call("POST", f"/jobs/{job_id}/release")[0] == 200
    wait_until(lambda: finished(system, job_id) == {0}, 60, "余下的一个任务")
    states = {job["state"] for job in system.call("GET", f"/jobs?job_id={job_id}")[1]["jobs"]}
    assert states == {"COMPLETED", "CANCELLED"}


@pytest.mark.parametrize(
    ("array", "word"),
    [
        ("0-9:0", "步长"),
        ("1-1000000000", "上限"),
        ("5-1", "颠倒"),
        ("1,,2", "无法识别"),
        ("0-9%x", "上限"),
        ("-1", "无法识别"),
    ],
)
def test_a_bad_array_says_what_is_wrong(system: RunningSystem, array: str, word: str) -> None:
    status, problem = system.call("POST", "/jobs/submit", {"job": {"array": array}, "script": "true"})
    assert (status, problem["code"]) == (422, "array_invalid")
    assert problem["errors"][0]["field"] == "job.array"
    assert word in problem["detail"]
