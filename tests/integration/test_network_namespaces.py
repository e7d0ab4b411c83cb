"""节点各在自己的网络里：srun、mpirun、torchrun 那样的启动跨着网络跑，网线断了与接上之后各是什么样。"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from network_yard import NetworkYard, network_yard

from mpi_program import mpi_program
from running_system import alive, wait_until
from scns_conductor.client import Client
from scns_conductor.client.executor import ConductorExecutor
from scns_conductor.client.problem import Problem
from scns_conductor.core.tokens import issue_token
from scns_conductor.slurm.install import install

pytestmark = pytest.mark.faults

RENDEZVOUS = Path(__file__).parent.parent / "data/rendezvous.py"
NODES = ["alpha", "beta", "gamma"]
MPI = mpi_program(r'printf("rank %d/%d %s sum %d\n", rank, size, getenv("SLURMD_NODENAME"), sum)')

if os.geteuid() != 0 or shutil.which("ip") is None:
    pytest.skip("要 root 与 iproute2：网络名字空间", allow_module_level=True)


@pytest.fixture(scope="module")
def yard(scratch: Path) -> Iterator[NetworkYard]:
    install(scratch / "net-bin", sys.executable)
    with network_yard(scratch / "net", NODES) as running:
        yield running


@pytest.fixture
def work(yard: NetworkYard, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """工作目录（三个节点共用的文件系统）；作业的 PATH 里有 Slurm 的命令。"""
    monkeypatch.setenv("PATH", f"{scratch / 'net-bin'}:{os.environ['PATH']}")
    for name in NODES:
        wait_until(lambda name=name: yard.node_state(name) == "UP", 60, f"{name} 在")  # type: ignore[misc]
    return tmp_path


def ran(yard: NetworkYard, work: Path, script: str, **job: object) -> list[str]:
    """跑完一份脚本，返回它的输出行；失败时给出输出。"""
    where = {"current_working_directory": str(work), "standard_output": "out", **job}
    job_id = yard.submit(f"#!/bin/bash\n{script}", **where)
    state = yard.wait(job_id, "COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", wait_s=90)
    text = (work / "out").read_text()
    assert state == "COMPLETED", text
    return text.splitlines()


def marked(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text().strip(), 60, str(path)))


def test_srun_crosses_the_network_without_a_personal_token(yard: NetworkYard, work: Path) -> None:
    script = (
        "env | grep -c -E '^(SCNS_TOKEN|SCNS_DATA_DIR|SCNS_DATABASE_URL|SCNS_REDIS_URL)='\n"
        "srun -l sh -c 'echo $SLURMD_NODENAME $(ip -o -4 addr show eth0)' | sort\n"
        "squeue -h -j $SLURM_JOB_ID -o '%i %t'\n"
    )
    lines = ran(yard, work, script, nodes="3", tasks=3)
    assert lines[0] == "0"
    for rank, name in enumerate(NODES):
        assert lines[1 + rank].startswith(f"{rank}: {name} ")
        assert f"inet {yard.network.nodes[name]}/24" in lines[1 + rank]
    assert lines[4].endswith(" R")


@pytest.mark.usefixtures("work")
def test_two_users_get_their_results_with_no_directory_in_common(yard: NetworkYard) -> None:
    """多用户：函数的结果只经 API，各以各的身份运行，谁也看不到谁的。"""

    def who_and_where(word: str) -> tuple[str, str, str]:
        import getpass
        import os

        return word, getpass.getuser(), os.environ["SLURMD_NODENAME"]

    python = "/usr/bin/python3"
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    if version.split(".")[:2] != [str(part) for part in sys.version_info[:2]]:
        pytest.skip(f"{python} 是 {version}，与跑测试的不是同一版")
    library = Path(tempfile.mkdtemp(prefix="scns-"))
    library.chmod(0o1777)
    # 别的用户也要走得到脚本那里。
    for folder in (yard.folder.parent, yard.folder, *(yard.folder / name for name in NODES)):
        folder.chmod(0o711)
    shutil.copytree(Path(cloudpickle.__file__).parent, library / "cloudpickle")
    executors = {
        user: ConductorExecutor(
            client=Client(yard.url, issue_token(yard.settings, user)),
            python=python,
            resources={
                "current_working_directory": str(library),
                "environment": {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(library)},
                "memory_per_node": "50M",
            },
        )
        for user in ("daemon", "games")
    }
    futures = {user: executor.submit(who_and_where, f"给 {user}") for user, executor in executors.items()}
    for user, future in futures.items():
        word, name, node = future.result(timeout=90)
        assert (word, name) == (f"给 {user}", user)
        assert node in NODES
    with pytest.raises(Problem) as refused:
        executors["games"].client.output(futures["daemon"].job_id or "")
    assert refused.value.status in (403, 404)
    for executor in executors.values():
        executor.shutdown()
    shutil.rmtree(library)


def test_nothing_is_lost_across_the_network(yard: NetworkYard, work: Path) -> None:
    data = os.urandom(1_000_000) * 100
    (work / "in").write_bytes(data)
    lines = ran(yard, work, "srun -N2 -n2 --input=in tee -a copy | wc -c\n", nodes="2", tasks=2)
    assert lines == ["200000000"]
    one = ran(yard, work, "srun -N1 -n1 -r1 cat < in | md5sum\n", nodes="2", tasks=2)
    assert one[0].split()[0] == hashlib.md5(data).hexdigest()


def test_mpirun_and_pmi_over_two_machines(yard: NetworkYard, work: Path) -> None:
    (work / "program.c").write_text(MPI)
    subprocess.run(["mpicc.openmpi", "program.c", "-o", "open"], cwd=work, check=True)
    subprocess.run(["mpicc.mpich", "program.c", "-o", "mpich"], cwd=work, check=True)
    script = (
        "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=tcp,self\n"
        "mpirun.openmpi ./open | sort\nsrun --mpi=pmi2 ./mpich | sort\nsrun --mpi=pmix ./open | sort\n"
    )
    lines = ran(yard, work, script, nodes="2", tasks=4, tasks_per_node=2, required_nodes="alpha,beta")
    assert lines == [f"rank {rank}/4 {NODES[rank // 2]} sum 10" for rank in range(4)] * 3


def test_a_torchrun_like_launch_meets_on_the_first_host(yard: NetworkYard, work: Path) -> None:
    script = (
        "head=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)\n"
        f"srun --ntasks-per-node=1 {sys.executable} {RENDEZVOUS} $head 29500 2\n"
    )
    lines = ran(yard, work, script, nodes="2", tasks_per_node=1, required_nodes="alpha,beta")
    assert sorted(lines) == [f"rank {rank}/4 on {NODES[rank // 2]} sum 6" for rank in range(4)]


def test_a_cut_link_ends_the_step_requeues_the_job_and_heals(yard: NetworkYard, work: Path) -> None:
    """拔掉一个节点的网线：srun 说出来，作业重新排队到别的节点；接上之后旧的任务都被杀掉，节点回来。"""
    script = (
        "echo $SLURM_JOB_NODELIST >> runs\n"
        "srun --ntasks-per-node=1 sh -c 'echo $$ > pid.$SLURMD_NODENAME; [ -e go ] || exec sleep 300'\n"
        "echo rc $?\n"
    )
    where = {"current_working_directory": str(work), "standard_output": "out", "requeue": True}
    job_id = yard.submit(f"#!/bin/bash\n{script}", nodes="2", tasks_per_node=1, required_nodes="alpha,beta", **where)
    pids = [marked(work / f"pid.{name}") for name in ("alpha", "beta")]
    yard.network.plug("beta", connected=False)
    wait_until(lambda: yard.node_state("beta") == "DOWN", 60, "beta 失联")
    yard.wait(job_id, "PENDING", wait_s=90)
    assert not alive(pids[0]), "有联系的节点上先杀尽"
    (work / "go").touch()
    yard.network.plug("beta", connected=True)
    wait_until(lambda: not alive(pids[1]), 60, "回来的节点杀掉不再属于它的")
    wait_until(lambda: yard.node_state("beta") == "UP", 90, "beta 回来")
    yard.wait(job_id, "COMPLETED", wait_s=120)
    assert (work / "runs").read_text().split() == ["alpha,beta", "alpha,beta"]
    # 分配都归还了，节点又能用。
    assert ran(yard, work, "srun -l true && echo fine\n", nodes="3", tasks=3)[-1] == "fine"


def test_a_short_cut_is_not_noticed(yard: NetworkYard, work: Path) -> None:
    """断得比失联的期限短：srun、作业、输出都接着走。"""
    script = "srun -N2 -n2 sh -c 'for i in $(seq 60); do echo $SLURM_PROCID $i; sleep 0.05; done'\n"
    where = {"current_working_directory": str(work), "standard_output": "out", "required_nodes": "alpha,gamma"}
    job_id = yard.submit(f"#!/bin/bash\n{script}", nodes="2", tasks=2, **where)
    wait_until(lambda: (work / "out").exists() and "1 3" in (work / "out").read_text(), 60, "跑着")
    yard.network.plug("gamma", connected=False)
    wait_until(lambda: "0 30" in (work / "out").read_text(), 60, "没断的一边照走")
    yard.network.plug("gamma", connected=True)
    assert yard.wait(job_id, "COMPLETED", "FAILED", "NODE_FAIL", wait_s=90) == "COMPLETED"
    lines = (work / "out").read_text().splitlines()
    assert sorted(lines) == sorted(f"{rank} {index}" for rank in range(2) for index in range(1, 61))


def test_a_killed_agent_and_shepherd_is_a_lost_node(yard: NetworkYard, work: Path) -> None:
    """一个节点整个死了（代理与牧守进程都被杀，像断电）：不许重新排队的作业 NODE_FAIL，别处的任务也结束。"""
    script = "srun --ntasks-per-node=1 sh -c 'echo $$ > pid.$SLURMD_NODENAME; exec sleep 300'\n"
    where = {"current_working_directory": str(work), "standard_output": "out", "requeue": False}
    job_id = yard.submit(f"#!/bin/bash\n{script}", nodes="2", tasks_per_node=1, required_nodes="alpha,gamma", **where)
    pids = [marked(work / f"pid.{name}") for name in ("alpha", "gamma")]
    shepherd = int((yard.folder / "gamma/spool/gamma/shepherd.lock").read_text())
    agent = yard.agents["gamma"]
    agent.send_signal(signal.SIGKILL)
    os.kill(shepherd, signal.SIGKILL)
    os.kill(pids[1], signal.SIGKILL)
    agent.wait()
    yard.wait(job_id, "NODE_FAIL", wait_s=90)
    wait_until(lambda: not alive(pids[0]), 60, "alpha 上的任务也结束")
    yard.start_agent("gamma")
    wait_until(lambda: yard.node_state("gamma") == "UP", 60, "gamma 回来")
