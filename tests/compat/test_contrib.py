"""contrib/ 里的各个包，装起来，对着真的 Dask、joblib、Snakemake、Parsl 与真的系统。"""

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_system import RunningSystem
from scns_conductor.client import Client

pytestmark = pytest.mark.compat

CONTRIB = Path(__file__).parents[2] / "contrib"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """四个包照各自的 pyproject.toml 装在一起。"""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    packages = [str(path.parent) for path in sorted(CONTRIB.glob("*/pyproject.toml"))]
    assert len(packages) == 4
    subprocess.run([*command, "--target", str(place), *packages], check=True, timeout=150)
    return place


@pytest.fixture
def work(running_system: RunningSystem, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = running_system.data_dir / request.node.name
    folder.mkdir()
    yield folder
    with contextlib.suppress(OSError):
        running_system.cancel_everything()


def python(running_system: RunningSystem, site: Path, work: Path, code: str) -> str:
    path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    script = work / "script.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=work, env={**running_system.environment, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_dask_workers_are_jobs(running_system: RunningSystem, site: Path, work: Path) -> None:
    code = """
        import os
        from dask.distributed import Client
        from scns_conductor_dask import ConductorCluster

        if __name__ == "__main__":
            with ConductorCluster(2, memory="500M", host="127.0.0.1", job={"name": "dask-test"}) as cluster:
                with Client(cluster) as client:
                    print(client.submit(sum, client.map(abs, [-1, -2, -3])).result(timeout=120))
                    cluster.scale(1)
                    client.wait_for_workers(1)
                    print(client.submit(os.getenv, "SLURM_JOB_NAME").result(timeout=120))
        """
    assert python(running_system, site, work, code).split() == ["6", "dask-test"]
    with Client(running_system.url, running_system.token) as client:
        jobs = list(client.jobs(name="dask-test", fields="state"))
        assert len(jobs) == 2
        # 关了集群，作业都收走。
        assert len(list(client.as_completed([job.job_id for job in jobs], timeout_s=60))) == 2


def test_joblib_batches_are_jobs(running_system: RunningSystem, site: Path, work: Path) -> None:
    code = """
        import os
        import scns_conductor_joblib
        from joblib import Parallel, delayed, parallel_config
        from scns_conductor.client.executor import ConductorExecutor

        def square(n):
            return n * n, os.environ["SLURM_JOB_ID"], os.environ["SLURM_CPUS_PER_TASK"]

        def bad(n):
            raise ValueError(f"坏 {n}")

        resources = {"current_working_directory": os.getcwd()}
        with ConductorExecutor(resources=resources) as executor:
            with parallel_config("scns", n_jobs=3, cpus=2, executor=executor):
                found = Parallel(batch_size=3)(delayed(square)(n) for n in range(7))
                values, jobs, cpus = zip(*found)
                print(list(values), len(set(jobs)) < 7, set(cpus))
                try:
                    Parallel()(delayed(bad)(n) for n in range(2))
                except ValueError as error:
                    print(error)
        """
    shown = python(running_system, site, work, code).splitlines()
    assert shown[0] == "[0, 1, 4, 9, 16, 25, 36] True {'2'}"
    assert shown[1].startswith("坏")


SNAKEFILE = """
rule all:
    input: "total", "never"

rule bad:
    output: "never"
    shell: "exit 3"

rule part:
    output: "part{n}"
    threads: 2
    resources: mem_mb=200, runtime=5
    shell: "echo {wildcards.n} > {output}; echo $SLURM_JOB_ID $SLURM_CPUS_PER_TASK >> jobs"

rule total:
    input: expand("part{n}", n=range(1, 4))
    output: "total"
    shell: "cat {input} | awk '{{s += $1}} END {{print s}}' > {output}"
"""


def test_snakemake_rules_are_jobs(running_system: RunningSystem, site: Path, work: Path) -> None:
    (work / "Snakefile").write_text(SNAKEFILE)
    words = ["--executor", "scns", "--jobs", "4", "--keep-going", "--latency-wait", "5"]
    path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words], cwd=work, env={**running_system.environment, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert (work / "total").read_text() == "6\n", done.stderr[-4000:]
    assert len(set((work / "jobs").read_text().splitlines())) == 3
    assert done.returncode != 0
    assert "Error in rule bad" in done.stderr
    assert "FAILED" in done.stderr
    ids = [int(line.split()[0]) for line in (work / "jobs").read_text().splitlines()]
    with Client(running_system.url, running_system.token) as client:
        job = client.job(ids[0])
        assert (job.cpus_per_task, job.memory_per_node, job.time_limit, job.comment) == (2, 200, 300, "part")


def test_parsl_blocks_are_jobs(running_system: RunningSystem, site: Path, work: Path) -> None:
    code = """
        import os, sys
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from scns_conductor.client import Client
        from scns_conductor_parsl import ConductorProvider

        os.environ["PATH"] += ":" + os.path.dirname(sys.executable)
        job = {"current_working_directory": os.getcwd(), "environment": {"PATH": os.environ["PATH"]}}
        provider = ConductorProvider(cores_per_node=2, mem_per_node=1, walltime="00:05:00", job=job)
        executor = HighThroughputExecutor(
            label="htex", address="127.0.0.1", max_workers_per_node=2, provider=provider, encrypted=False
        )

        def where(n):
            import os
            return n * n, os.environ["SLURM_JOB_ID"]

        with parsl.load(Config(executors=[executor], strategy="none")):
            found = [future.result(timeout=120) for future in [parsl.python_app(where)(n) for n in range(4)]]
            print([value for value, _ in found], {job for _, job in found} == set(provider.resources))
            [job_id] = provider.resources
            print(provider.status([job_id])[0].state.name)
        client = Client()
        ended = client.wait(job_id, timeout_s=60)
        print(ended.state, ended.cpus_per_task, provider.status([job_id])[0].state)
        """
    shown = python(running_system, site, work, code).splitlines()
    assert shown[0] == "[0, 1, 4, 9] True"
    assert shown[1] == "RUNNING"
    assert shown[2] == "CANCELLED 2 JobState.CANCELLED"
