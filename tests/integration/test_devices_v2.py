"""只有 cgroup v2 的系统（自己的挂载名字空间里卸掉 v1 的控制器）：设备由 eBPF 程序圈住，作业步也在内。"""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_links import Commands

from busybox_container import BUSYBOX, MARKER, write_bundle
from running_system import START_WAIT_S, STOP_WAIT_S, RunningSystem
from scns_conductor.worker.host.cgroup import mounts
from scns_conductor.worker.host.device_program import works

LISTED = "GPU 0: Tesla T4 (UUID: GPU-aa)\nGPU 1: Tesla T4 (UUID: GPU-bb)\n"
BOXED = bool(shutil.which("crun")) and BUSYBOX.exists()
POINTS = [point for kind, point, _ in mounts() if kind == "cgroup"]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not any(kind == "cgroup2" for kind, _, _ in mounts()) or not works(),
    reason="要 root、挂着的 cgroup2 与 CONFIG_CGROUP_BPF",
)


@pytest.fixture(scope="module")
def system(scratch: Path) -> Iterator[RunningSystem]:
    folder = scratch / "v2-driver"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && printf %s {shlex.quote(LISTED)}\nexit 0\n')
    program.chmod(0o755)
    data, ready = scratch / "v2", scratch / "v2.ready.json"
    words = [sys.executable, "-m", "scns_conductor.local", "up", "--data-dir", data, "--no-web", "--port", "0"]
    words += ["--ready-file", ready, "--cpus", "4", "--memory", "8G", "--nodes", "1"]
    hide = "".join(f"umount {shlex.quote(point)} && " for point in POINTS)
    script = f"mount --make-rprivate / && {hide}exec {shlex.join(map(str, words))}"
    with open(scratch / "v2.log", "ab") as log:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_WAIT_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"没有就绪（{process.poll()}）：\n{(scratch / 'v2.log').read_text()[-4000:]}")
            time.sleep(0.05)
        told = json.loads(ready.read_text())
        yield RunningSystem(data, process, told["url"], told["token"])
    finally:
        process.terminate()
        process.wait(STOP_WAIT_S)


def test_devices_are_confined_without_a_devices_controller(system: RunningSystem, tmp_path: Path) -> None:
    slurm = Commands.beside(system, tmp_path)
    contained = system.call("GET", "/nodes")[1]["nodes"][0]["containment"]
    assert (contained["cgroup_version"], contained["devices"]) == (2, "cgroup")
    for minor in (0, 1):
        os.mknod(slurm.work / f"nvidia{minor}", 0o666 | stat.S_IFCHR, os.makedev(195, minor))
    attempt = "for each in 0 1; do (exec 3< nvidia$each) 2>&1 | sed 's/.*: //'; done"
    (slurm.work / "try.sh").write_text(f"#!/bin/bash\n{attempt}\n")
    script = (
        f"#!/bin/bash\n#SBATCH -o %j.out\n{attempt}\necho $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS\nsrun bash try.sh\n"
    )
    if BOXED:
        # 容器里的任务也只碰得到自己的卡，变量也在。
        bundle = write_bundle(slurm.work / "bundle")
        script += f"srun --container={bundle} sh -c '. ./try.sh; echo $CUDA_VISIBLE_DEVICES; cat {MARKER}'\n"
    first = slurm.submit("--gres=gpu:1", text=script + "while [ ! -e done ]; do sleep 0.1; done\n")
    second = slurm.submit("--gres=gpu:1", text=script)
    system.wait_state(second, "COMPLETED")
    (slurm.work / "done").touch()
    system.wait_state(first, "COMPLETED")
    denied, allowed = "Operation not permitted", "No such device or address"
    seen = [(slurm.work / f"{job}.out").read_text().splitlines() for job in (first, second)]
    # 驱动在圈住的作业里从自己的卡数起。
    boxed = [[allowed, denied, "0", "in the box"], [denied, allowed, "0", "in the box"]] if BOXED else [[], []]
    assert seen[0] == [allowed, denied, "0 0", allowed, denied, *boxed[0]]
    assert seen[1] == [denied, allowed, "0 1", denied, allowed, *boxed[1]]
