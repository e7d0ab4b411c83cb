"""未经改动的 torchx（torchx-nightly）：几个副本是一个异构作业，一起启动，一条 srun 跨过全部部分。

发布的 torchx 0.7.0 钉死 urllib3 < 1.27，与别的客户端装不到一起；要测的那份调度器在 nightly 里更新。
"""

from collections.abc import Iterator

import pytest
from slurm_commands import Slurm
from torchx.runner import Runner, get_runner
from torchx.schedulers.api import Stream
from torchx.specs import AppDef, AppState, Resource, Role, macros

from running_system import wait_until

pytest_plugins = ["slurm_fixtures"]
pytestmark = pytest.mark.compat
ENDED = {AppState.SUCCEEDED, AppState.FAILED, AppState.CANCELLED}


@pytest.fixture
def runner() -> Iterator[Runner]:
    with get_runner("compat") as found:
        yield found


def app(**replicas: int) -> AppDef:
    """几个角色，各有几个副本；副本报出自己的序号，头一个等齐了才走。"""
    words = f"echo $GREETING {macros.replica_id} $SLURM_PROCID/$SLURM_NTASKS $SLURM_HET_SIZE"
    return AppDef(
        name="app",
        roles=[
            Role(
                name=name, image="", entrypoint="sh", args=["-c", words], num_replicas=count,
                env={"GREETING": f"hello-{name}"}, resource=Resource(cpu=1, gpu=0, memMB=100),
            )
            for name, count in replicas.items()
        ],
    )  # fmt: skip


def run(runner: Runner, slurm: Slurm, what: AppDef, folder: str) -> str:
    return runner.run(what, scheduler="slurm", cfg={"job_dir": str(slurm.work / folder), "time": "5"})


def state(runner: Runner, handle: str) -> AppState:
    found = runner.status(handle)
    return found.state if found is not None else AppState.UNKNOWN


def test_replicas_of_two_roles_run_as_one_heterogeneous_job(slurm: Slurm, runner: Runner) -> None:
    handle = run(runner, slurm, app(trainer=2, reader=1), "good")
    wait_until(lambda: state(runner, handle) in ENDED, 90, "结束")
    status = runner.status(handle)
    assert status is not None
    assert status.state == AppState.SUCCEEDED, status
    shown = {(role.role, each.id, each.state) for role in status.roles for each in role.replicas}
    assert shown == {
        (role, index, AppState.SUCCEEDED) for role, index in (("trainer", 0), ("trainer", 1), ("reader", 0))
    }
    lines = {
        (role, index): "".join(runner.log_lines(handle, role, index, streams=Stream.STDOUT)).strip()
        for role, index in (("trainer", 0), ("trainer", 1), ("reader", 0))
    }
    assert lines == {
        ("trainer", 0): "hello-trainer 0 0/3 3",
        ("trainer", 1): "hello-trainer 1 1/3 3",
        ("reader", 0): "hello-reader 0 2/3 3",
    }
    assert handle.rpartition("/")[2] in {each.app_id for each in runner.list("slurm")}


def test_a_replica_that_fails_fails_the_application_after_its_retry(slurm: Slurm, runner: Runner) -> None:
    what = app(trainer=2)
    what.roles[0].args = ["-c", f"echo run >> {slurm.work}/runs-{macros.replica_id}; exit {macros.replica_id}"]
    what.roles[0].max_retries = 1
    handle = run(runner, slurm, what, "bad")
    # 第一次失败之后脚本自己 scontrol requeue：又成了排队的，最后才是失败。
    wait_until(lambda: state(runner, handle) == AppState.FAILED and _runs(slurm) == 2, 90, "两次都失败")
    assert "Restarts=1" in slurm.out("scontrol", "show", "job", handle.rpartition("/")[2])


def _runs(slurm: Slurm) -> int:
    file = slurm.work / "runs-1"
    return len(file.read_text().split()) if file.exists() else 0


def test_cancelling_ends_every_replica(slurm: Slurm, runner: Runner) -> None:
    what = app(trainer=3)
    what.roles[0].args = ["-c", "sleep 300"]
    handle = run(runner, slurm, what, "long")
    wait_until(lambda: state(runner, handle) == AppState.RUNNING, 60, "启动")
    status = runner.status(handle)
    assert status is not None
    node = slurm.out("sinfo", "-h", "-o", "%N").strip()
    assert [each.hostname for each in status.roles[0].replicas] == [node] * 3
    runner.cancel(handle)
    job = handle.rpartition("/")[2]
    wait_until(lambda: state(runner, handle) == AppState.CANCELLED, 60, "都取消了")
    shown = slurm.out("sacct", "-nXP", "-j", job, "-o", "state").split()
    assert shown == ["CANCELLED"] * 3
