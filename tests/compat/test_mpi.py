"""真的 MPI：Open MPI 的 mpirun 靠 srun 起它的守护进程；srun 直接启动的，MPICH 与 libpmi2 靠 pmi2，Open MPI 靠 pmix。"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from busybox_container import write_host_bundle
from mpi_program import mpi_program
from running_system import start_system
from scns_conductor.slurm.install import install

PROGRAM = mpi_program(r'printf("rank %d/%d node %s sum %d\n", rank, size, getenv("SLURMD_NODENAME"), sum)')
SCRIPT = """#!/bin/bash
#SBATCH -N2 --ntasks-per-node=2 -o mpi.out
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun.openmpi ./program && mpirun.openmpi -np 2 --map-by node ./program
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --ntasks-per-node=1 bash -c "echo launch $head \\$SLURM_NODEID/\\$SLURM_NNODES"
"""


# Slurm 自己的 PMI-2 客户端：几轮 fence、值里的分号、节点属性。
PMI2 = r"""
#include <stdio.h>
#include <string.h>
int PMI2_Init(int *, int *, int *, int *);
int PMI2_Finalize(void);
int PMI2_KVS_Put(const char *, const char *);
int PMI2_KVS_Fence(void);
int PMI2_KVS_Get(const char *, int, const char *, char *, int, int *);
int PMI2_Info_PutNodeAttr(const char *, const char *);
int PMI2_Info_GetNodeAttr(const char *, char *, int, int *, int);
int PMI2_Info_GetJobAttr(const char *, char *, int, int *);
int PMI2_Job_GetId(char *, int);
int main(void) {
  int spawned, size, rank, appnum, length, found, round, peer;
  char key[64], want[64], value[1024], job[256], mapping[1024], node[256];
  if (PMI2_Init(&spawned, &size, &rank, &appnum)) return 3;
  PMI2_Job_GetId(job, sizeof job);
  PMI2_Info_GetJobAttr("PMI_process_mapping", mapping, sizeof mapping, &found);
  for (round = 0; round < 5; round++) {
    snprintf(key, sizeof key, "k%d-%d", round, rank);
    snprintf(value, sizeof value, "v;%d;=%d", round, rank);
    PMI2_KVS_Put(key, value);
    PMI2_KVS_Fence();
    for (peer = 0; peer < size; peer++) {
      snprintf(key, sizeof key, "k%d-%d", round, peer);
      snprintf(want, sizeof want, "v;%d;=%d", round, peer);
      if (PMI2_KVS_Get(job, -1, key, value, sizeof value, &length) || strcmp(value, want)) return 4;
    }
  }
  if (rank % 2 == 0) PMI2_Info_PutNodeAttr("segment", "s");
  PMI2_Info_GetNodeAttr("segment", node, sizeof node, &found, 1);
  printf("rank %d/%d %s %d %s\n", rank, size, mapping, found, node);
  PMI2_Finalize();
  return 0;
}
"""
ABORT = PROGRAM.replace("MPI_Finalize();", "if (rank == 3) MPI_Abort(MPI_COMM_WORLD, 9); MPI_Barrier(MPI_COMM_WORLD);")


@dataclass
class Cluster:
    """两个节点；commands 是装好的命令。"""

    commands: Path
    environment: dict[str, str]

    def run(self, *words: str, work: Path) -> "subprocess.CompletedProcess[str]":
        """执行一条命令。"""
        return subprocess.run(
            [self.commands / words[0], *words[1:]], cwd=work, env=self.environment, timeout=120, check=False,
            capture_output=True, text=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Cluster]:
    commands = scratch / "mpi-bin"
    install(commands, sys.executable)
    with start_system(scratch / "mpi", "--nodes", "2", "--cpus", "2", "--memory", "4G") as system:
        yield Cluster(commands, {**system.environment, "PATH": f"{commands}:{os.environ['PATH']}"})


def built(work: Path, compiler: str, text: str, *options: str) -> None:
    (work / "program.c").write_text(text)
    subprocess.run([compiler, "program.c", "-o", "program", *options], cwd=work, check=True)


def test_mpirun_over_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    built(tmp_path, "mpicc.openmpi", PROGRAM)
    (tmp_path / "job.sh").write_text(SCRIPT)
    done = cluster.run("sbatch", "--wait", "job.sh", work=tmp_path)
    lines = sorted((tmp_path / "mpi.out").read_text().splitlines())
    assert done.returncode == 0, lines
    assert lines == [
        "launch node1 0/2",
        "launch node1 1/2",
        "rank 0/2 node node1 sum 3",
        "rank 0/4 node node1 sum 10",
        "rank 1/2 node node2 sum 3",
        "rank 1/4 node node1 sum 10",
        "rank 2/4 node node2 sum 10",
        "rank 3/4 node node2 sum 10",
    ]


def test_mpich_is_launched_by_srun(cluster: Cluster, tmp_path: Path) -> None:
    built(tmp_path, "mpicc.mpich", PROGRAM)
    for order, nodes in (("block", ["node1", "node1", "node2", "node2"]), ("cyclic", ["node1", "node2"] * 2)):
        done = cluster.run("srun", "-N2", "-n4", "-m", order, "--mpi=pmi2", "./program", work=tmp_path)
        assert done.returncode == 0, done.stderr
        told = [f"rank {rank}/4 node {node} sum 10" for rank, node in enumerate(nodes)]
        assert sorted(done.stdout.splitlines()) == told
    # 没有 PMI 时各自为政：四个只有自己的世界。
    done = cluster.run("srun", "-N2", "-n4", "./program", work=tmp_path)
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["0/1"] * 4


def test_open_mpi_is_launched_by_srun_through_pmix(cluster: Cluster, tmp_path: Path) -> None:
    built(tmp_path, "mpicc.openmpi", PROGRAM)
    for order, nodes in (("block", ["node1", "node1", "node2", "node2"]), ("cyclic", ["node1", "node2"] * 2)):
        done = cluster.run("srun", "-N2", "-n4", "-m", order, "--mpi=pmix", "./program", work=tmp_path)
        assert done.returncode == 0, done.stderr
        told = [f"rank {rank}/4 node {node} sum 10" for rank, node in enumerate(nodes)]
        assert sorted(done.stdout.splitlines()) == told


@pytest.mark.parametrize(("compiler", "kind"), [("mpicc.mpich", "pmi2"), ("mpicc.openmpi", "pmix")])
def test_mpi_abort_ends_the_whole_step(cluster: Cluster, tmp_path: Path, compiler: str, kind: str) -> None:
    built(tmp_path, compiler, ABORT)
    done = cluster.run("srun", "-N2", "-n4", f"--mpi={kind}", "./program", work=tmp_path)
    assert done.returncode not in (0, None)
    assert "ABORTED BY TASK 3" in done.stderr


def test_the_pmi_2_client_of_slurm(cluster: Cluster, tmp_path: Path) -> None:
    built(tmp_path, "gcc", PMI2, "-l:libpmi2.so.0")
    done = cluster.run("srun", "-N2", "-n4", "--mpi=pmi2", "./program", work=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"rank {rank}/4 (vector,(0,2,2)) 1 s" for rank in range(4)]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("crun"), reason="要 root 与 crun")
@pytest.mark.parametrize(("compiler", "kind"), [("mpicc.mpich", "pmi2"), ("mpicc.openmpi", "pmix")])
def test_the_tasks_in_containers_find_each_other(cluster: Cluster, tmp_path: Path, compiler: str, kind: str) -> None:
    """根是另一个文件系统，只有 /usr 是主机的：PMI 的描述符、PMIx 的套接字与变量都带得进去。"""
    built(tmp_path, compiler, PROGRAM)
    bundle = write_host_bundle(tmp_path / "bundle")
    run = ("srun", "-N2", "-n4", f"--mpi={kind}", f"--container={bundle}")
    done = cluster.run(*run, "sh", "-c", "ls /inside && exec ./program", work=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [f"rank {rank}/4 node {node} sum 10" for rank, node in enumerate(["node1", "node1", "node2", "node2"])]
    assert sorted(done.stdout.splitlines()) == ["/inside"] * 4 + told
