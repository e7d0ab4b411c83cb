"""从 PyPI 装来的、未经改动的 Slurm 客户端，对着真系统。"""

import operator
import sys
import time
from pathlib import Path

import payloads
import pytest
from dask_jobqueue.slurm import SLURMCluster
from distributed import Client
from simple_slurm import Slurm as SimpleSlurm
from slurm_commands import Slurm
from submitit import SlurmExecutor
from submitit.core.utils import UncompletedJobError

from running_system import wait_until

pytest_plugins = ["slurm_fixtures"]
pytestmark = pytest.mark.compat


def _executor(folder: Path) -> SlurmExecutor:
    executor = SlurmExecutor(folder=folder, python=sys.executable)
    executor.update_parameters(time=5)
    return executor


def test_submitit_runs_a_function_and_returns_its_result(slurm: Slurm) -> None:
    job = _executor(slurm.work / "logs").submit(operator.mul, 6, 7)
    assert job.result() == 42
    wait_until(lambda: job.get_info(mode="force").get("State") == "COMPLETED", what="sacct 说 COMPLETED")


def test_submitit_reports_the_exception_of_the_function(slurm: Slurm) -> None:
    job = _executor(slurm.work / "logs").submit(operator.floordiv, 1, 0)
    error = job.exception()
    assert error is not None
    assert "ZeroDivisionError" in str(error)


def test_submitit_array_gives_every_result(slurm: Slurm) -> None:
    executor = _executor(slurm.work / "logs")
    executor.update_parameters(array_parallelism=3)
    jobs = executor.map_array(operator.mul, [1, 2, 3, 4, 5, 6], [10] * 6)
    assert [job.result() for job in jobs] == [10, 20, 30, 40, 50, 60]


def test_submitit_makes_the_folder_of_a_job_after_it_was_submitted(slurm: Slurm) -> None:
    """folder="…/%j"（文档里的写法）：拿到作业号才建目录，作业不能因为启动得快就失败。"""
    executor = _executor(slurm.work / "logs" / "%j")
    assert executor.submit(operator.mul, 6, 7).result() == 42
    assert [job.result() for job in executor.map_array(operator.mul, [1, 2], [10] * 2)] == [10, 20]


def test_submitit_cancel_ends_the_job(slurm: Slurm) -> None:
    job = _executor(slurm.work / "logs").submit(time.sleep, 300)
    wait_until(lambda: job.get_info(mode="force").get("State") == "RUNNING", what="开始运行")
    job.cancel()
    wait_until(lambda: job.get_info(mode="force").get("State") == "CANCELLED", what="sacct 说 CANCELLED")
    with pytest.raises(UncompletedJobError):
        job.result()


def test_submitit_checkpoints_and_requeues_itself_on_time_out(slurm: Slurm) -> None:
    """时限前 USR2 到，作业自己 scontrol requeue，下一次从停下的地方接着。"""
    log = slurm.work / "runs"
    executor = _executor(slurm.work / "logs")
    # 时限一分钟，还有 55 秒时发 USR2：约 5 秒之后。
    executor.update_parameters(time=1, signal_delay_s=55)
    job = executor.submit(payloads.Counter(log))
    assert job.result() == 100
    assert log.read_text().split() == ["0", "50"]
    shown = slurm.out("scontrol", "show", "job", str(job.job_id))
    assert "Restarts=1" in shown


def test_submitit_several_tasks_each_give_a_result(slurm: Slurm) -> None:
    executor = _executor(slurm.work / "logs")
    executor.update_parameters(ntasks_per_node=3)
    job = executor.submit(payloads.rank_and_size)
    assert sorted(job.results()) == [(rank, 3) for rank in range(3)]


def test_dask_cluster_adapts_to_its_work(slurm: Slurm) -> None:
    """adaptive：有活就扩，没活就缩到一个也不剩。"""
    with SLURMCluster(
        cores=1, memory="1GB", walltime="00:10:00", python=sys.executable, interface="lo",
        log_directory=str(slurm.work), local_directory=str(slurm.work), job_name="adaptive",
        scheduler_options={"dashboard_address": ":0"},
    ) as cluster:  # fmt: skip
        adapting = cluster.adapt(minimum_jobs=0, maximum_jobs=2, interval="1s", wait_count=4)
        with Client(cluster) as client:
            assert sum(client.gather(client.map(payloads.slowly, range(12)))) == 66
            words = ("squeue", "--me", "-h", "-n", "adaptive", "-o", "%t")
            wait_until(lambda: not slurm.out(*words).split(), 60, "没有活了，作业都收走")
            # 停下，不是改成至多零个：那样它几秒之后又把下面要的收走，而机器忙时 worker 还没有来得及连上。
            adapting.stop()
            cluster.scale(jobs=1)
            client.wait_for_workers(1, timeout=90)
            cluster.scale(jobs=0)
            wait_until(lambda: not slurm.out(*words).split(), 60, "缩到零")


def test_dask_cluster_scales_computes_and_shuts_down(slurm: Slurm) -> None:
    with SLURMCluster(
        cores=1,
        memory="1GB",
        walltime="00:10:00",
        python=sys.executable,
        interface="lo",
        log_directory=str(slurm.work),
        local_directory=str(slurm.work),
        scheduler_options={"dashboard_address": ":0"},
    ) as cluster:
        cluster.scale(jobs=2)
        with Client(cluster) as client:
            client.wait_for_workers(2, timeout=90)
            assert client.gather(client.map(operator.neg, range(10))) == [-value for value in range(10)]
            running = slurm.out("squeue", "--me", "-h", "-n", "dask-worker", "-o", "%t").split()
            assert running == ["R", "R"]
    wait_until(lambda: not slurm.out("squeue", "--me", "-h", "-n", "dask-worker").strip(), what="dask 的作业都结束")


def test_simple_slurm_submits_and_reads_the_queue(slurm: Slurm) -> None:
    job = SimpleSlurm(cpus_per_task=1, job_name="simple", output=str(slurm.work / "%j.out"), time="00:05:00")
    job_id = job.sbatch("echo hello; sleep 300", shell="/bin/bash")
    wait_until(lambda: (slurm.work / f"{job_id}.out").is_file(), what="输出文件")
    job.squeue.update_squeue()
    mine = next(each for each in job.squeue.jobs.values() if str(each["JOBID"]) == str(job_id))
    assert mine["NAME"] == "simple"
    job.scancel.cancel_job(job_id)
    wait_until(lambda: not slurm.out("squeue", "-h", "--me", "-n", "simple").strip(), what="作业被取消")
