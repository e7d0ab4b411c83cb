"""异构作业，对着真的系统：部分一起启动、一起结束（杀掉调度进程也是），sbatch、srun、salloc、列表、slurmrestd。"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until as wait
from slurm_links import Commands

from running_system import RunningSystem, wait_until
from scns_conductor.core.settings import Settings
from scns_conductor.statements.starts import Share, Start
from scns_conductor.worker.scheduler.start_commits import commit_groups

SCRIPT = """#!/bin/bash
#SBATCH -n1 -J two -o out
#SBATCH hetjob
#SBATCH -N2 --ntasks-per-node=1
"""
SHOW = "echo $SLURM_PROCID/$SLURM_NTASKS $SLURM_NODEID/$SLURM_NNODES $SLURM_JOB_ID $SLURM_HET_SIZE"


@pytest.fixture(scope="module")
def cluster(lent_system: RunningSystem) -> RunningSystem:
    return lent_system


@pytest.fixture
def slurm(cluster: RunningSystem, tmp_path: Path) -> Iterator[Commands]:
    yield Commands.beside(cluster, tmp_path)
    cluster.cancel_everything()


def states(cluster: RunningSystem, job_id: str) -> list[tuple[str, str | None]]:
    _, answer = cluster.call("GET", f"/jobs?job_id={job_id}&sort=job_id&fields=state,exit_code")
    return [(job["state"], job["exit_code"]) for job in answer["jobs"]]


def until(cluster: RunningSystem, job_id: str, *wanted: str) -> None:
    wait_until(lambda: {state for state, _ in states(cluster, job_id)} == set(wanted), what=f"{job_id} 到 {wanted}")


def test_a_script_with_two_parts_runs_steps_in_one_and_across_both(cluster: RunningSystem, slurm: Commands) -> None:
    text = f"""{SCRIPT}
env | grep -E '^SLURM_(HET_SIZE|JOB_ID_HET|JOB_NUM_NODES_HET)' | sort
srun -l bash -c '{SHOW}'
srun -l --het-group=1 bash -c '{SHOW}' | sort
srun -l --het-group=0,1 bash -c '{SHOW}' | sort
srun -l echo first : echo second | sort
srun --het-group=2 true 2>&1
srun -o first echo first : -o second -e second-error sh -c 'echo second; echo error >&2'
srun -o both echo first : -o both echo second
exit 4
"""
    job = slurm.submit(text=text)
    until(cluster, job, "FAILED")
    second = str(int(job) + 1)
    assert (slurm.work / "out").read_text().splitlines() == [
        "SLURM_HET_SIZE=2",
        f"SLURM_JOB_ID_HET_GROUP_0={job}",
        f"SLURM_JOB_ID_HET_GROUP_1={second}",
        "SLURM_JOB_NUM_NODES_HET_GROUP_0=1",
        "SLURM_JOB_NUM_NODES_HET_GROUP_1=2",
        f"0: 0/1 0/1 {job} 2",
        f"0: 0/2 0/2 {job} 2",
        f"1: 1/2 1/2 {job} 2",
        f"0: 0/3 0/3 {job} 2",
        f"1: 1/3 1/3 {job} 2",
        f"2: 2/3 2/3 {job} 2",
        "0: first",
        "1: second",
        "2: second",
        "srun: fatal: Attempt to run a job step with het group value of 2, "
        "but the job allocation has maximum value of 1",
    ]
    # 各个部分各有文件；写的是同一个的，谁也不盖掉谁。
    written = {name: (slurm.work / name).read_text() for name in ("first", "second", "second-error")}
    assert written == {"first": "first\n", "second": "second\nsecond\n", "second-error": "error\nerror\n"}
    assert sorted((slurm.work / "both").read_text().split()) == ["first", "second", "second"]
    # 脚本结束了，别的部分也结束，退出码相同。
    assert states(cluster, job) == [("FAILED", "4:0"), ("FAILED", "4:0")]
    listed = slurm.run("sacct", "-nP", "-j", job, "-o", "jobid,jobidraw,jobname,state").stdout.splitlines()
    assert listed[0] == f"{job}+0|{job}|two|FAILED"
    assert f"{job}+0.batch|{job}.batch|batch|FAILED" in listed
    assert f"{job}+1|{second}|two|FAILED" in listed
    assert f"{job}+1.extern|{second}.extern|extern|FAILED" in listed
    assert f"{job}+1.2|{second}.2|bash|COMPLETED" in listed


def test_listings_and_control_name_the_parts(cluster: RunningSystem, slurm: Commands) -> None:
    job = slurm.submit("-H", text=f"{SCRIPT}sleep 60\n")
    second = str(int(job) + 1)
    queue = slurm.run("squeue", "-h", "-o", "%i %T %r").stdout.split("\n")
    assert {f"{job}+0 PENDING JobHeldUser", f"{job}+1 PENDING JobHeldUser"} <= set(queue)
    assert slurm.run("squeue", "-h", "-j", f"{job}+1", "-O", "HetJobId,HetJobOffset,HetJobIdSet").stdout.split() == [
        job,
        "1",
        f"{job}-{second}",
    ]
    shown = slurm.run("scontrol", "show", "job", f"{job}+1").stdout
    assert shown.startswith(
        f"JobId={second} HetJobId={job} HetJobOffset=1 JobName=two\n   HetJobIdSet={job}-{second}\n"
    )
    records = json.loads(slurm.run("squeue", "--json", "-j", job).stdout)["jobs"]
    assert [(each["het_job_id"]["number"], each["het_job_offset"]["number"]) for each in records] == [
        (int(job), 0),
        (int(job), 1),
    ]
    assert {each["het_job_id_set"] for each in records} == {f"{job}-{second}"}
    # 排队的只能整个取消。
    refused = slurm.run("scancel", f"{job}+1")
    assert refused.returncode == 1
    assert "Operation not permitted on individual component of heterogeneous job" in refused.stderr
    assert slurm.run("scontrol", "release", job).returncode == 0
    until(cluster, job, "RUNNING")
    assert slurm.run("scontrol", "requeue", f"{job}+1").returncode == 1
    # 运行中的可以只取消一个部分，别的照常；取消整个就都结束。
    assert slurm.run("scancel", f"{job}+1").returncode == 0
    wait_until(lambda: [state for state, _ in states(cluster, job)] == ["RUNNING", "CANCELLED"])
    assert slurm.run("scancel", job).returncode == 0
    until(cluster, job, "CANCELLED")


def test_a_requeue_brings_all_parts_back_together(cluster: RunningSystem, slurm: Commands) -> None:
    job = slurm.submit(text=f'{SCRIPT}echo run >> ran\n[ "$SLURM_RESTART_COUNT" ] && exit 0\nsleep 60\n')
    wait_until(lambda: (slurm.work / "ran").exists() and (slurm.work / "ran").read_text())
    assert slurm.run("scontrol", "requeue", job).returncode == 0
    until(cluster, job, "COMPLETED")
    assert (slurm.work / "ran").read_text() == "run\nrun\n"
    _, answer = cluster.call("GET", f"/jobs?job_id={job}&fields=restart_count")
    assert [each["restart_count"] for each in answer["jobs"]] == [1, 1]


def test_a_part_whose_node_is_lost_takes_the_whole_with_it(cluster: RunningSystem, slurm: Commands) -> None:
    """第 1 个部分的节点没了：整个重新排队，等节点好了再一起来。"""
    text = "#!/bin/bash\n#SBATCH -w node1\n#SBATCH hetjob\n#SBATCH -w node2\necho x >> ran\n"
    job = slurm.submit(text=text + '[ "$SLURM_RESTART_COUNT" ] || sleep 60\n')
    wait_until(lambda: (slurm.work / "ran").exists() and (slurm.work / "ran").read_text())
    assert slurm.run("scontrol", "update", "nodename=node2", "state=down", "reason=test").returncode == 0
    try:
        until(cluster, job, "PENDING")
        wait_until(lambda: cluster.call("GET", "/nodes/node1")[1]["allocated_cpus"] == 0)
        assert states(cluster, job) == [("PENDING", None), ("PENDING", None)]
    finally:
        slurm.run("scontrol", "update", "nodename=node2", "state=resume")
    until(cluster, job, "COMPLETED")
    assert (slurm.work / "ran").read_text() == "x\nx\n"


def test_a_part_that_cannot_start_keeps_the_whole_waiting(cluster: RunningSystem, slurm: Commands) -> None:
    blocker = slurm.submit("-n8", "-N2", text="#!/bin/bash\nsleep 60\n")
    until(cluster, blocker, "RUNNING")
    done = slurm.run("sbatch", "--parsable", "-n1", ":", "-n2", "--wrap", "true")
    job = done.stdout.strip()
    wait_until(lambda: "Resources" in slurm.run("squeue", "-h", "-j", job, "-o", "%r").stdout)
    assert states(cluster, job) == [("PENDING", None), ("PENDING", None)]
    why = cluster.call("GET", f"/jobs/{job}/why")[1]
    assert "第 1 个部分" in why["text"]
    slurm.run("scancel", blocker)
    until(cluster, job, "COMPLETED")


def test_salloc_and_srun_with_two_parts(cluster: RunningSystem, slurm: Commands) -> None:
    words = "env | grep ^SLURM_NTASKS_HET | sort; srun -l --het-group=0-1 echo x | sort; exit 3"
    done = slurm.run("salloc", "-Q", "-n2", ":", "-n1", "-c2", "bash", "-c", words)
    assert (done.returncode, done.stdout) == (
        3,
        "SLURM_NTASKS_HET_GROUP_0=2\nSLURM_NTASKS_HET_GROUP_1=1\n0: x\n1: x\n2: x\n",
    )
    done = slurm.run("srun", "-n1", "bash", "-c", "exit 2", ":", "-n2", "bash", "-c", "cat; exit 5", text="in\n")
    assert (done.returncode, done.stdout) == (5, "in\nin\n")
    wait_until(lambda: not slurm.run("squeue", "-h").stdout, what="都交还了")


def ended_steps(cluster: RunningSystem, job_id: str) -> list[bool]:
    return [step["end_time"] is not None for step in cluster.call("GET", f"/jobs/steps?job_id={job_id}")[1]["steps"]]


def test_a_part_that_is_done_first_does_not_end_the_others(cluster: RunningSystem, slurm: Commands) -> None:
    """独立的 srun：第 0 个部分的任务先做完，别的部分照跑到底；都做完了才交还。"""
    waits = "until [ -e go ]; do sleep 0.1; done; echo done; exit 5"
    words = [slurm.prefix / "srun", "-n1", "bash", "-c", "exit 2", ":", "-n1", "bash", "-c", waits]
    with subprocess.Popen(words, cwd=slurm.work, env=slurm.environment, stdout=subprocess.PIPE, text=True) as srun:
        job = min(wait_until(lambda: slurm.run("squeue", "-h", "-o", "%A").stdout.split(), what="在跑"), key=int)
        wait_until(lambda: ended_steps(cluster, job) == [True], what="第 0 个部分做完了")
        # 调度器处理过在这之前的变化。
        until(cluster, slurm.submit("-n1", text="#!/bin/sh\n"), "COMPLETED")
        (slurm.work / "go").touch()
        assert (srun.communicate(timeout=60)[0], srun.returncode) == ("done\n", 5)
    wait_until(lambda: not slurm.run("squeue", "-h").stdout, what="都交还了")
    until(cluster, job, "FAILED")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-a", "1-2", ":", "-n2"), "Invalid job array specification"),
        (("-p", "nosuch", ":", "-n2"), "invalid partition specified: nosuch"),
        (("-n1", ":", "-p", "nosuch"), "invalid partition specified: nosuch"),
    ],
)
def test_what_a_heterogeneous_job_cannot_be(slurm: Commands, words: tuple[str, ...], said: str) -> None:
    done = slurm.run("sbatch", *words, "--wrap", "true")
    assert done.returncode == 1
    assert said in done.stderr


def test_slurmrestd_takes_several_jobs_as_one(cluster: RunningSystem, slurm: Commands) -> None:
    job = {"current_working_directory": str(slurm.work), "environment": ["A=b"], "name": "rest", "tasks": 1}
    body = {"script": "#!/bin/bash\necho $SLURM_HET_SIZE > size\n", "jobs": [job, {**job, "cpus_per_task": 2}]}
    status, answer = cluster.call("POST", "/slurm/v0.0.44/job/submit", body)
    assert status == 200, answer
    until(cluster, str(answer["job_id"]), "COMPLETED")
    assert (slurm.work / "size").read_text() == "2\n"
    _, shown = cluster.call("GET", f"/slurm/v0.0.44/job/{answer['job_id']}")
    assert [each["het_job_offset"]["number"] for each in shown["jobs"]] == [0, 1]
    status, answer = cluster.call("GET", f"/slurmdb/v0.0.44/job/{answer['job_id']}")
    assert [each["het"]["job_offset"]["number"] for each in answer["jobs"]] == [0, 1]


# ---- 没有 scns up：提交是一个事务，杀掉谁都一样 ----


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def together(yard: NodeYard, *scripts: str | None, **fields: Any) -> list[int]:
    """一个异构作业；部分一次都看得见。"""
    found = [yard.submit(script, hold="user", **fields) for script in scripts]
    yard.execute(
        "UPDATE jobs SET het_job_id = :head, het_job_offset = job_id - :head, het_job_id_set = :members, hold = NULL "
        "WHERE job_id >= :head",
        head=found[0],
        members=f"{found[0]}-{found[-1]}",
    )
    yard.execute("INSERT INTO scheduler_inbox (kind, job_ids) VALUES ('jobs', :ids)", ids=found)
    yard.execute("NOTIFY scns_inbox")
    return found


def test_a_start_refused_for_one_part_starts_none(yard: NodeYard) -> None:
    first, second = together(yard, "#!/bin/sh\n", None)
    yard.execute("INSERT INTO nodes (name, address, cpus, memory, state) VALUES ('n1', 'n1', 8, 1000, 'UP')")
    share = (Share("n1", 1, 0, {}, 1),)
    alone = yard.submit("#!/bin/sh\n")
    starts = [
        Start(first, 0, None, False, "n1", share, het_job_id=first),
        Start(alone, 0, None, False, "n1", share),
        # 用户刚改过它：版本对不上。
        Start(second, 7, None, False, "n1", share, het_job_id=first),
    ]
    with yard.engine.connect() as connection:
        epoch = yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"]
        assert [started.job_id for started in commit_groups(connection, epoch, starts)] == [alone]
    assert [yard.job(number)["state"] for number in (first, second, alone)] == ["PENDING", "PENDING", "RUNNING"]
    assert [row["job_id"] for row in yard.query("SELECT job_id FROM resource_allocations")] == [alone]
    assert yard.node("n1")["allocated_cpus"] == 1


def test_ready_het_jobs_start_in_one_transaction_and_the_refused_ones_not_at_all(yard: NodeYard) -> None:
    yard.execute("INSERT INTO nodes (name, address, cpus, memory, state) VALUES ('n1', 'n1', 64, 1000, 'UP')")
    share = (Share("n1", 1, 0, {}, 1),)
    hets = [together(yard, "#!/bin/sh\n", None) for _ in range(10)]
    alone, gone = yard.submit("#!/bin/sh\n"), yard.submit("#!/bin/sh\n")
    half, none = hets[3], hets[6]
    # 用户刚改过它：版本对不上。
    changed = {half[1], *none, gone}
    starts = [Start(gone, 7, None, False, "n1", share), Start(alone, 0, None, False, "n1", share)]
    starts += [
        Start(part, 7 if part in changed else 0, None, False, "n1", share, het_job_id=head)
        # 各个的部分交错着。
        for position in (0, 1)
        for head, part in ((parts[0], parts[position]) for parts in hets)
    ]
    with yard.engine.connect() as connection:
        epoch = yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"]
        started = commit_groups(connection, epoch, starts)
        assert not connection.in_transaction()
    ready = {alone, *(part for parts in hets for part in parts)} - {*half, *none}
    assert {row.job_id for row in started} == ready
    assert [row.job_id for row in started] == [starts[row.index].job_id for row in started]
    rows = yard.query("SELECT job_id, xmin::text AS written_by FROM jobs WHERE state = 'RUNNING'")
    assert {row["job_id"] for row in rows} == ready
    assert len({row["written_by"] for row in rows}) == 1
    assert {row["job_id"] for row in yard.query("SELECT job_id FROM resource_allocations")} == ready
    assert {row["job_id"] for row in yard.query("SELECT job_id FROM job_events WHERE to_state = 'RUNNING'")} == ready
    assert yard.node("n1")["allocated_cpus"] == len(ready)


PARTLY = (
    "SELECT het_job_id FROM jobs GROUP BY het_job_id HAVING bool_or(state = 'PENDING') AND bool_or(state <> 'PENDING')"
)


@pytest.mark.faults
def test_killing_the_scheduler_again_and_again_never_leaves_a_part_alone(yard: NodeYard) -> None:
    # 一次只放得下一个：每杀一次之后还有没启动的。
    yard.start_agent("n1", SCNS_NODE_CPUS="3")
    groups = [
        together(yard, f"#!/bin/sh\necho {number} >> {yard.output}/ran\n", None, None, cpus_per_task=1)
        for number in range(3)
    ]
    ended = "SELECT count(*) AS n FROM jobs WHERE state NOT IN ('PENDING', 'RUNNING')"
    started = "SELECT count(*) AS n FROM jobs WHERE state <> 'PENDING'"
    before = 0
    while yard.query(ended)[0]["n"] < 9:
        scheduler = yard.start_scheduler("n1", SCNS_SCHEDULER_LEASE_S="1")
        try:
            # 又启动了一些（或都结束了）就杀掉它；看的每一眼，部分都在同一边。
            def moved(past: int = before) -> bool:
                assert yard.query(PARTLY) == []
                return yard.query(started)[0]["n"] > past or yard.query(ended)[0]["n"] == 9

            wait(moved, "又启动了几个")
            before = yard.query(started)[0]["n"]
            if before == 9:
                # 都启动过了：留着它，让它把没有脚本的部分也结束掉。
                wait(lambda: yard.query(ended)[0]["n"] == 9, "都结束")
        finally:
            os.kill(scheduler.pid, 9)
            scheduler.wait()
    assert sorted((yard.output / "ran").read_text().split()) == sorted(map(str, range(3)))
    for group in groups:
        assert [yard.causes(number).count("start") for number in group] == [1, 1, 1]
        assert {yard.job(number)["state"] for number in group} == {"COMPLETED"}
    assert [row["allocated_cpus"] for row in yard.query("SELECT allocated_cpus FROM nodes")] == [0]
