"""GPU 由（照真的输出写的）nvidia-smi 说：MIG 的类型、设备的限制，重新划分，运行中的作业的卡不见了。"""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from slurm_links import Commands

from running_system import RunningSystem, database_url, start_system, wait_until

DATA = Path(__file__).parents[1] / "data" / "gpus"
LISTED = (DATA / "nvidia-smi-L-mig.txt").read_text()
HOLD = "#!/bin/sh\n#SBATCH -o /dev/null\nsleep 300\n"


@pytest.fixture(scope="module")
def driver(scratch: Path) -> Path:
    """改这个文件，nvidia-smi 说的就变了。"""
    folder = scratch / "driver"
    folder.mkdir()
    (folder / "listed").write_text(LISTED)
    program = folder / "nvidia-smi"
    usage = DATA / "nvidia-smi-usage.csv"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in\n-L) exec cat {folder}/listed;;\n*utilization*) exec cat {usage};;\nesac\n'
    )
    program.chmod(0o755)
    return folder / "listed"


@pytest.fixture(scope="module")
def system(scratch: Path, driver: Path) -> Iterator[RunningSystem]:
    environment = {
        "PATH": f"{driver.parent}:{os.environ['PATH']}",
        "SCNS_GPU_WATCH_INTERVAL_S": "0.2",
        "SCNS_NODE_GPU_SHARES": "0:shard:4",
        "SCNS_HEARTBEAT_INTERVAL_S": "0.3",
        "SCNS_JOB_SAMPLE_INTERVAL_S": "0.5",
    }
    options = ("--cpus", "4", "--memory", "8G", "--nodes", "1")
    with start_system(scratch / "gpu-changes", *options, environment=environment) as system:
        yield system


@pytest.fixture
def slurm(system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(system, tmp_path)


def gres(slurm: Commands) -> str:
    return slurm.run("sinfo", "-h", "-o", "%G").stdout.strip()


def database(system: RunningSystem) -> "psycopg.Connection[tuple[Any, ...]]":
    return psycopg.connect(database_url(system))


def record(system: RunningSystem, job: str) -> dict[str, Any]:
    found: dict[str, Any] = system.call("GET", f"/jobs/{job}")[1]
    return found


def state(slurm: Commands) -> str:
    return slurm.run("sinfo", "-h", "-o", "%T|%E").stdout.strip()


def output(slurm: Commands, text: str, *words: str) -> str:
    done = slurm.run("sbatch", "--wait", "-o", "out", *words, text=f"#!/bin/bash\n{text}\n")
    assert done.returncode == 0, done.stderr + (slurm.work / "out").read_text()
    return (slurm.work / "out").read_text()


def test_instances_are_types_of_gpus(slurm: Commands) -> None:
    assert gres(slurm) == "gpu:a100:1,gpu:a100_1g.5gb:2,shard:a100_3g.20gb:4"
    seen = output(slurm, "echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS", "--gres=gpu:a100_1g.5gb:1")
    assert seen in (
        "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb 1\n",
        "MIG-1e8099c4-2a9f-5fb1-9b8d-3a6b0e7a1b52 2\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="要 root：设备文件、cgroup 的设备限制")
def test_the_devices_of_other_cards_cannot_be_opened(system: RunningSystem, slurm: Commands) -> None:
    if system.call("GET", "/nodes")[1]["nodes"][0]["containment"]["devices"] != "cgroup":
        pytest.skip("这里的 cgroup 管不了设备")
    for minor in (0, 1):
        os.mknod(slurm.work / f"nvidia{minor}", 0o666 | stat.S_IFCHR, os.makedev(195, minor))
    # 没有驱动：许的是“没有这个设备”，不许的是“不允许”。
    attempt = "(exec 3< nvidia$each) 2>&1 | sed 's/.*: //'"
    script = f"for each in 0 1; do {attempt}; done; srun sh -c '(exec 3< nvidia0) 2>&1; true'"
    whole = output(slurm, script, "--gres=gpu:a100:1")
    assert whole.splitlines()[:2] == ["Operation not permitted", "No such device or address"]
    assert "not permitted" in whole.splitlines()[2]
    none = output(slurm, script)
    assert none.splitlines()[:2] == ["Operation not permitted"] * 2


def test_two_jobs_share_a_card(slurm: Commands) -> None:
    show = "#!/bin/sh\n#SBATCH -o %j.out\necho $CUDA_VISIBLE_DEVICES $SLURM_SHARDS_ON_NODE\nsleep 300\n"
    jobs = [slurm.submit("--gres=shard:2", text=show) for _ in range(2)]
    instance = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f 2\n"
    for job in jobs:
        wait_until(lambda out=slurm.work / f"{job}.out": out.exists() and out.read_text() == instance, 60, job)
    third = slurm.submit("--gres=shard:1", text=show)
    wait_until(lambda: slurm.run("squeue", "-h", "-j", third, "-o", "%t %r").stdout == "PD Resources\n", 60, "等着")
    slurm.run("scancel", jobs[0])
    wait_until(lambda: slurm.run("squeue", "-h", "-j", third, "-o", "%t").stdout == "R\n", 60, "轮到它")
    assert slurm.run("sbatch", "--gres=shard:5", text=show).returncode == 1
    slurm.run("scancel", jobs[1], third)


def test_the_use_of_the_cards_is_counted(system: RunningSystem, slurm: Commands) -> None:
    job = slurm.submit("--gres=gpu:a100:1", text=HOLD)
    wait_until(lambda: (record(system, job).get("gpu_energy_j") or 0) > 1, 60, "采到了能耗")
    live = slurm.run("sstat", "-nP", "-j", f"{job}.batch", "-o", "tresusageintot,consumedenergyraw").stdout
    assert "gres/gpumem=30214M,gres/gpuutil=" in live
    slurm.run("scancel", job)
    system.wait_state(job)
    told = slurm.run("seff", job).stdout
    assert "GPU Utilized: " in told
    assert "GPU Memory Utilized: 29.51 GB" in told
    energy = slurm.run("sacct", "-nP", "-j", f"{job}.batch", "-o", "consumedenergyraw").stdout.strip()
    assert int(energy) > 1
    # 没有卡的作业没有。
    plain = slurm.submit(text="#!/bin/sh\n#SBATCH -o /dev/null\ntrue\n")
    system.wait_state(plain)
    assert "GPU" not in slurm.run("seff", plain).stdout


@pytest.mark.faults
def test_resliced_and_lost(system: RunningSystem, slurm: Commands, driver: Path) -> None:
    driver.write_text(LISTED.replace("MIG 3g.20gb ", "MIG 2g.10gb ").replace("MIG-c6d4f1ef", "MIG-00000000"))
    wait_until(lambda: "shard:a100_2g.10gb:4" in gres(slurm), 60, "重新登记了")
    wait_until(lambda: state(slurm).startswith("idle|"), 60, "重新划分的不必人来恢复")
    # 为重新划分排空着的代理没有等到就死了：新的代理登记的就是现在的卡，撤销它。
    (agent,) = system.services("worker.agent.process")
    values = ("agent@node1", "node1")
    with database(system) as connection:
        connection.execute(
            "UPDATE nodes SET drain = true, reason = 'MIG 重新划分过：x', reason_user = %s WHERE name = %s", values
        )
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: state(slurm).startswith("idle|"), 60, "撤销了")
    job = slurm.submit("--gres=gpu:a100:1", text=HOLD)
    wait_until(lambda: slurm.run("squeue", "-h", "-j", job, "-o", "%t").stdout == "R\n", 60, "在跑")
    driver.write_text("".join(line for line in driver.read_text().splitlines(True) if not line.startswith("GPU 1")))
    wait_until(lambda: state(slurm).startswith("draining|a GPU vanished: "), 60, "排空了")
    assert system.call("GET", "/nodes/node1")[1]["reason"].startswith("GPU 不见了：3 号（a100，GPU-3c8a7d1e")
    # 作业照跑，说明里写着；卡还占着，登记的不变。
    found = wait_until(lambda: system.query(job)["error_msg"], 60, "告诉了作业")
    assert "GPU 不见了" in found
    assert system.query(job)["state"] == "RUNNING"
    assert "gpu:a100:1" in gres(slurm)
    slurm.run("scancel", job)
    wait_until(lambda: "gpu:a100:1" not in gres(slurm), 60, "照现在的重新登记了")
    assert state(slurm).startswith("drained|a GPU vanished: ")
