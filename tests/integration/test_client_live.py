"""Python 客户端对着真的系统：等、先结束先交出、跟随、成批、线程共用、API 重启。"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from running_system import RunningSystem, start_system, wait_until
from scns_conductor.client import AsyncClient, Client
from scns_conductor.client.answers import Job, Node, Partition
from scns_conductor.client.problems import JobNotFound, ScriptBlank


@pytest.fixture
def client(running_system: RunningSystem) -> Iterator[Client]:
    with Client(running_system.url, running_system.token) as made:
        yield made


def job(system: RunningSystem, **wanted: object) -> dict[str, object]:
    return {"name": "live", "current_working_directory": str(system.data_dir), **wanted}


def test_answers_are_typed(client: Client, running_system: RunningSystem) -> None:
    job_id = client.submit(job(running_system, memory_per_node="100M", time_limit="5"), "echo 你好\n")
    found = client.wait(job_id, timeout_s=60)
    assert isinstance(found, Job)
    assert (found.state, found.exit_code, found.time_limit, found.memory_per_node) == ("COMPLETED", "0:0", 300, 100)
    assert isinstance(found.end_time, datetime)
    assert client.job(job_id).allocations[0].node_name == found.node_list
    assert client.query(job_id).job_log.stdout == "你好\n"
    assert client.output(job_id).decode() == "你好\n"
    node, partition = client.nodes()[0], client.partitions()[0]
    assert isinstance(node, Node)
    assert node.cpus > 0
    assert isinstance(partition, Partition)
    assert client.partition(partition.name) == partition
    assert client.usage("now-1hour").capacity.nodes == len(client.nodes())
    assert client.plan(job(running_system), "true\n").nodes
    assert client.why(job_id).state == "COMPLETED"
    assert [event.to_state for event in client.events(job_id)][-1] == "COMPLETED"


def test_refusals_are_typed(client: Client) -> None:
    with pytest.raises(JobNotFound):
        client.job(2**40)
    with pytest.raises(JobNotFound):
        client.wait(2**40)
    with pytest.raises(ScriptBlank):
        client.submit({}, "  ")


def test_the_first_to_end_comes_first(client: Client, running_system: RunningSystem) -> None:
    gate = running_system.data_dir / "gate"
    slow = client.submit(job(running_system), f"until [ -e {gate} ]; do sleep 0.1; done\n")
    array = client.submit(job(running_system, array="0-2"), "true\n")
    quick = client.submit(job(running_system), "exit 3\n")
    order = []
    for ended in client.as_completed([slow, array, quick], timeout_s=120):
        order.append(ended.job_id)
        if len(order) == 2:
            gate.touch()
    gate.unlink()
    assert set(order[:2]) == {array, quick}
    assert order[2] == slow
    held = client.submit(job(running_system, hold=True), "true\n")
    with pytest.raises(TimeoutError):
        client.wait(held, timeout_s=0.2)
    client.cancel(held)


def test_a_task_of_an_array_can_be_waited_for(client: Client, running_system: RunningSystem) -> None:
    array = client.submit(job(running_system, array="0-1"), "exit $SLURM_ARRAY_TASK_ID\n")
    assert client.wait(f"{array}_1", timeout_s=60).exit_code == "1:0"
    assert client.wait(f"{array}_[0-1]", timeout_s=60).array_job_id == array


def test_watching_says_each_change_until_all_have_ended(
    client: Client, running_system: RunningSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = running_system.data_dir / "watch-gate"
    array = client.submit(job(running_system, array="0-1"), f"until [ -e {gate} ]; do sleep 0.1; done\n")
    failed = client.submit(job(running_system), "exit 1\n")
    with pytest.raises(TimeoutError):
        client.watch([array], refresh_s=0.05, timeout_s=0.1)
    gate.touch()
    ended = client.watch([array, failed], refresh_s=0.05, timeout_s=60)
    gate.unlink()
    assert sorted((each.array_task_id, each.state) for each in ended if each.array_job_id == array) == [
        (0, "COMPLETED"),
        (1, "COMPLETED"),
    ]
    assert [each.state for each in ended if each.job_id == failed] == ["FAILED"]
    assert capsys.readouterr().out.splitlines()[-1] == "COMPLETED 2 · FAILED 1"

    async def same() -> list[Job]:
        async with AsyncClient(running_system.url, running_system.token) as other:
            return await other.watch([failed])

    assert [each.state for each in asyncio.run(same())] == ["FAILED"]
    # 不给作业号是自己没有结束的。
    held = client.submit(job(running_system, hold=True), "true\n")
    with pytest.raises(TimeoutError, match=held):
        client.watch(refresh_s=0.05, timeout_s=0)
    client.cancel(held)


def test_threads_share_one_client(client: Client, running_system: RunningSystem) -> None:
    with ThreadPoolExecutor(8) as pool:
        job_ids = list(pool.map(lambda n: client.submit(job(running_system), f"exit {n % 2}\n"), range(24)))
    assert len(set(job_ids)) == 24
    codes = {ended.job_id: ended.exit_code for ended in client.as_completed(job_ids, timeout_s=120)}
    assert [codes[job_id] for job_id in job_ids] == [f"{n % 2}:0" for n in range(24)]


def test_the_async_client_does_the_same(running_system: RunningSystem) -> None:
    async def go() -> None:
        async with AsyncClient(running_system.url, running_system.token) as client:
            jobs = [{"job": job(running_system), "script": f"echo {n}\n"} for n in range(20)]
            job_ids = [job_id async for job_id in client.submit_many(jobs, batch=7)]
            assert len(job_ids) == 20
            ended = {each.job_id async for each in client.as_completed(job_ids, timeout_s=120)}
            assert ended == set(job_ids)
            outputs = await asyncio.gather(*(client.output(job_id) for job_id in job_ids))
            assert [int(output) for output in outputs] == list(range(20))
            written = b"".join([part async for part in client.tail(job_ids[3])])
            assert written == b"3\n"
            found = [each.job_id async for each in client.jobs(name="live", fields="state", most=5)]
            assert len(found) == 5

    asyncio.run(go())


def api_pids(system: RunningSystem) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(system.process.pid), "-f", "scns_conductor.api"],
                           capture_output=True, text=True, check=False)  # fmt: skip
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.faults
def test_nothing_is_lost_or_doubled_when_the_api_dies(scratch: Path) -> None:
    with (
        start_system(scratch / "client", "--nodes", "1", "--cpus", "4", "--memory", "4G") as system,
        Client(system.url, system.token, reconnect_s=60, patience_s=60) as client,
    ):
        script = "for i in $(seq 30); do echo line $i; sleep 0.1; done\n"
        followed = client.submit(job(system), script)
        read = client.tail(followed)
        first = next(read)
        for pid in api_pids(system):
            os.kill(pid, signal.SIGKILL)
        # API 不在的时候照样提交、跟随、等：断了的重送。
        many = list(client.submit_many({"job": job(system), "script": "true\n"} for _ in range(30)))
        assert first + b"".join(read) == "".join(f"line {n}\n" for n in range(1, 31)).encode()
        wait_until(lambda: api_pids(system), 60, "API 又起来了")
        for pid in api_pids(system):
            os.kill(pid, signal.SIGKILL)
        ended = [each.state for each in client.as_completed([followed, *many], timeout_s=120)]
        assert ended == ["COMPLETED"] * 31
        assert len(list(client.jobs(name="live", fields="state"))) == 31
