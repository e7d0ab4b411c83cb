"""从 PyPI 装来的、未经改动的工作流系统：snakemake、parsl、clusterfutures、ReFrame、qtoolkit，对着真系统。"""

import operator
import os
import subprocess
import sys
import textwrap

import parsl
import payloads
import pytest
from cfut import SlurmExecutor as CfutExecutor
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider
from qtoolkit.core.data_objects import CancelStatus, QResources, QState
from qtoolkit.io.slurm import SlurmIO
from qtoolkit.manager import QueueManager
from slurm_commands import Slurm

from running_system import wait_until

pytest_plugins = ["slurm_fixtures"]
pytestmark = pytest.mark.compat

SNAKEFILE = """
rule all:
    input: "total", "never"

rule bad:
    output: "never"
    shell: "exit 3"

rule part:
    output: "part{n}"
    resources: mem_mb=200, runtime=5
    shell: "echo {wildcards.n} > {output}; echo $SLURM_JOB_ID >> jobs"

rule total:
    input: expand("part{n}", n=range(1, 4))
    output: "total"
    threads: 2
    shell: "cat {input} | awk '{{s += $1}} END {{print s}}' > {output}"
"""


def snakemake(slurm: Slurm) -> "subprocess.CompletedProcess[str]":
    (slurm.work / "Snakefile").write_text(SNAKEFILE)
    words = ["--executor", "slurm", "--jobs", "4", "--default-resources", "slurm_account=root", "slurm_partition=main"]
    words += ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", "--keep-going"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words], cwd=slurm.work, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


def test_snakemake_runs_a_workflow_as_jobs_and_reports_the_one_that_fails(slurm: Slurm) -> None:
    done = snakemake(slurm)
    assert (slurm.work / "total").read_text() == "6\n", done.stderr[-3000:]
    assert len(set((slurm.work / "jobs").read_text().split())) == 3
    assert done.returncode != 0
    assert "Error in rule bad" in done.stderr


def test_parsl_starts_its_workers_through_srun(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    # parsl 按名字找它自己的程序。
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{os.path.dirname(sys.executable)}")
    provider = SlurmProvider(
        partition="main", nodes_per_block=1, init_blocks=1, min_blocks=0, max_blocks=1, walltime="00:05:00",
        launcher=SrunLauncher(), worker_init="", exclusive=False,
    )  # fmt: skip
    executor = HighThroughputExecutor(
        label="htex", address="127.0.0.1", max_workers_per_node=2, provider=provider, encrypted=False
    )
    with parsl.load(Config(executors=[executor], run_dir=str(slurm.work / "runinfo"), strategy="none")):
        futures = [parsl.python_app(payloads.slowly)(value) for value in range(4)]
        assert [future.result(timeout=120) for future in futures] == [0, 1, 2, 3]
        names = slurm.out("squeue", "--me", "-h", "-t", "R", "-o", "%j").split()
        assert any(name.startswith("parsl.htex") for name in names)
    wait_until(lambda: not slurm.out("squeue", "--me", "-h").strip(), 60, "parsl 的作业都收走")


REFRAME_SITE = """
environment = {"name": "builtin"}
partition = {"name": "c", "scheduler": "slurm", "launcher": "srun", "environs": ["builtin"], "access": ["-p main"]}
system = {"name": "here", "hostnames": [".*"], "partitions": [partition]}
site_configuration = {"systems": [system], "environments": [environment]}
"""
REFRAME_CHECKS = """
import reframe as rfm
import reframe.utility.sanity as sn


class Check(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    num_tasks = 2
    time_limit = "2m"
    executable = "sh"

    @sanity_function
    def both_ranks(self):
        return sn.assert_eq(sn.sorted(sn.extractall(r"rank (\\d)", self.stdout, 1, int)), [0, 1])


@rfm.simple_test
class Good(Check):
    executable_opts = ["-c", "'echo rank $SLURM_PROCID'"]


@rfm.simple_test
class Bad(Check):
    executable_opts = ["-c", "'exit 1'"]
"""


def test_reframe_runs_its_checks_as_jobs(slurm: Slurm) -> None:
    (slurm.work / "site.py").write_text(REFRAME_SITE)
    (slurm.work / "checks.py").write_text(REFRAME_CHECKS)
    program = os.path.join(os.path.dirname(sys.executable), "reframe")
    done = subprocess.run(
        [program, "-C", "site.py", "-c", "checks.py", "-r", "--nocolor"], cwd=slurm.work, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "Ran 2/2 test case(s) from 2 check(s) (1 failure(s)" in done.stdout, done.stdout + done.stderr


def test_qtoolkit_submits_reads_and_cancels(slurm: Slurm) -> None:
    manager = QueueManager(SlurmIO())
    resources = QResources(
        queue_name="main", job_name="qt", nodes=1, processes_per_node=2, time_limit=300, memory_per_thread=100
    )
    options = {"options": resources, "work_dir": str(slurm.work), "create_submit_dir": False}
    done = manager.submit(["srun -l hostname > ran"], **options)
    wait_until(lambda: manager.get_job(done.job_id).state == QState.DONE, 60, "做完")
    assert len((slurm.work / "ran").read_text().splitlines()) == 2
    held = manager.submit(["sleep 300"], **options)
    wait_until(lambda: manager.get_job(held.job_id).state == QState.RUNNING, 60, "运行")
    found = {job.job_id: job for job in manager.get_jobs_list(user="root")}[held.job_id]
    assert (found.name, found.info.cpus, found.info.nodes, found.info.time_limit) == ("qt", 2, 1, 300)
    assert manager.cancel(held.job_id).status == CancelStatus.SUCCESSFUL
    wait_until(lambda: manager.get_job(held.job_id).state == QState.FAILED, 60, "取消")


def test_clusterfutures_maps_a_function(slurm: Slurm) -> None:
    with CfutExecutor(additional_setup_lines=["#SBATCH --time=5"]) as executor:
        assert list(executor.map(operator.neg, [1, 2, 3])) == [-1, -2, -3]
        assert executor.submit(textwrap.dedent, "  x").result(timeout=60) == "x"
