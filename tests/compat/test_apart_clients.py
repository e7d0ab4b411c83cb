"""未经改动、但与别的客户端装不到一起的：装进自己的目录，在自己的进程里运行。

openapi-slurm-0-0-38-client（钉死 urllib3 < 2.1），发布的 torchx 0.7.0（钉死 urllib3 < 1.27；它读旧的 --json）。
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_commands import Slurm

pytest_plugins = ["slurm_fixtures"]
pytestmark = pytest.mark.compat

# 读、提交、修改、取消；最后一行是三个状态。
REST = """
import os, sys, time
import openapi_client as of
configuration = of.Configuration(host=os.environ["SCNS_URL"])
configuration.api_key["token"] = os.environ["SCNS_TOKEN"]
api = of.SlurmApi(of.ApiClient(configuration))
assert api.slurm_v0038_ping().pings and api.slurm_v0038_diag().statistics
assert api.slurm_v0038_get_nodes().nodes and api.slurm_v0038_get_partitions().partitions
job = {"name": "v38", "environment": {"WHO": "v38"}, "current_working_directory": os.getcwd(),
       "standard_output": "o.txt", "time_limit": 5, "memory_per_node": 100}
script = "#!/bin/sh\\necho from-$WHO\\n"

def submit(**more):
    wanted = of.V0038JobSubmission(script=script, job=of.V0038JobProperties(**job, **more))
    return str(api.slurm_v0038_submit_job(wanted).job_id)

def state(job_id):
    return api.slurm_v0038_get_job(job_id).jobs[0].job_state

done = submit()
for _ in range(300):
    if state(done) == "COMPLETED":
        break
    time.sleep(0.1)
held = submit(hold=True)
api.slurm_v0038_update_job(held, of.V0038JobProperties(environment={}, comment="changed"))
assert api.slurm_v0038_get_job(held).jobs[0].comment == "changed"
assert {int(done), int(held)} <= {each.job_id for each in api.slurm_v0038_get_jobs().jobs}
waiting = state(held)
api.slurm_v0038_cancel_job(held)
print(state(done), waiting, state(held))
"""
TORCHX = """
from torchx.runner import get_runner
from torchx.schedulers.api import Stream
from torchx.specs import AppDef, Resource, Role
import os, time
role = Role(name="trainer", image="", entrypoint="sh", args=["-c", "echo $SLURM_PROCID/$SLURM_NTASKS"], num_replicas=2,
            resource=Resource(cpu=1, gpu=0, memMB=100))
with get_runner("apart") as runner:
    os.mkdir("job")
    handle = runner.run(AppDef(name="app", roles=[role]), scheduler="slurm", cfg={"job_dir": os.getcwd() + "/job"})
    for _ in range(300):
        status = runner.status(handle)
        if status is not None and status.is_terminal():
            break
        time.sleep(0.2)
    lines = ["".join(runner.log_lines(handle, "trainer", each, streams=Stream.STDOUT)).strip() for each in range(2)]
    print(status.state.name, *lines)
"""


def install(folder: Path, *packages: str) -> Path:
    """装进自己的目录；其余的依赖用测试环境里的。"""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
         "--target", str(folder), *packages],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return folder


def run(slurm: Slurm, folder: Path, program: str, **variables: str) -> str:
    """在自己的进程里运行；那个目录里的包排在前面。"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=slurm.work, check=False, timeout=120,
        env={**slurm.environment, **variables, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def test_the_generated_client_of_v0_0_38(slurm: Slurm, tmp_path: Path) -> None:
    folder = install(tmp_path / "packages", "openapi-slurm-0-0-38-client==1.0.0", "urllib3==2.0.7")
    assert run(slurm, folder, REST) == "COMPLETED PENDING CANCELLED"
    assert (slurm.work / "o.txt").read_text() == "from-v38\n"


def test_the_released_torchx(slurm: Slurm, tmp_path: Path) -> None:
    needed = ("urllib3==1.26.20", "pyre-extensions==0.0.32", "typing-inspect==0.9.0", "mypy-extensions==1.0.0")
    folder = install(tmp_path / "packages", "torchx==0.7.0", *needed)
    assert run(slurm, folder, TORCHX, SCNS_SLURM_VERSION="22.05") == "SUCCEEDED 0/2 1/2"
