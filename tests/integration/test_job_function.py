"""@job：调用在本地跑，submit 在集群上跑；时限的短写法；依赖靠传 Future。"""

import os
import subprocess
import sys

import pytest

from running_system import RunningSystem
from scns_conductor import client as conductor
from scns_conductor.client.job_function import JobFunction, resources_of, time_limit_text

SCRIPT = """
import os
from scns_conductor import client as conductor

@conductor.job(cpus=2, memory="300M", time_limit="1h")
def where(number):
    return number, os.environ.get("SLURM_JOB_ID"), where.resources["cpus_per_task"]

@conductor.job()
def total(numbers):
    return sum(number for number, _, _ in numbers)

assert where(1) == (1, None, 2)
one, two = where.submit(1), where.options(memory="200M", name="x").submit(number=2)
print(total.submit([one, two]).result(120), one.result() == (1, one.job_id, 2), two.job_id, list(total.map([[]])))
"""


def test_a_call_is_local_and_submit_is_a_job(running_system: RunningSystem) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], env=running_system.environment, cwd=running_system.data_dir,
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    three, same, two, mapped = done.stdout.split()
    assert (three, same, mapped) == ("3", "True", "[0]")
    with conductor.Client(running_system.url, running_system.token) as client:
        job = client.job(two)
        assert (job.cpus_per_task, job.memory_per_node, job.time_limit) == (2, 200, 3600)


@pytest.mark.parametrize(
    ("given", "text"),
    [("1h", "60:00"), ("90m", "90:00"), ("1d12h", "2160:00"), ("45s", "0:45"), (30, "30"), ("1-2:00", "1-2:00")],
)
def test_short_times(given: str | int, text: str) -> None:
    assert time_limit_text(given) == text


def test_short_names_are_job_fields() -> None:
    assert resources_of(gpus="a100:2", partition="gpu") == {"tres_per_job": "gres/gpu:a100:2", "partition": "gpu"}

    @conductor.job(cpus=1)
    def here() -> int:
        """在哪里。"""
        return os.getpid()

    assert isinstance(here, JobFunction)
    assert (here.__name__, here.__doc__, here()) == ("here", "在哪里。", os.getpid())
