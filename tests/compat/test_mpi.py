"""真的 MPI：Open MPI 的 mpirun 在两节点的分配里靠 srun 起它的守护进程。"""

import os
import subprocess
import sys
from pathlib import Path

from running_system import start_system
from scns_conductor.slurm.install import install

PROGRAM = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
  int rank, size, mine, sum;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  mine = rank + 1;
  MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  printf("rank %d/%d node %s sum %d\n", rank, size, getenv("SLURMD_NODENAME"), sum);
  MPI_Finalize();
  return 0;
}
"""
# 两个节点是同一台机器：共享内存的通道会把它们当成两台而互相踩，所以只走 TCP。
SCRIPT = """#!/bin/bash
#SBATCH -N2 --ntasks-per-node=2 -o mpi.out
export OMPI_MCA_btl=tcp,self OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun ./program && mpirun -np 2 --map-by node ./program
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --ntasks-per-node=1 bash -c "echo launch $head \\$SLURM_NODEID/\\$SLURM_NNODES"
"""


def test_mpirun_over_two_nodes(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(PROGRAM)
    subprocess.run(["mpicc", "program.c", "-o", "program"], cwd=tmp_path, check=True)
    (tmp_path / "job.sh").write_text(SCRIPT)
    commands = scratch / "mpi-bin"
    install(commands, sys.executable)
    with start_system(scratch / "mpi", "--nodes", "2", "--cpus", "2", "--memory", "4G") as system:
        environment = {**system.environment, "PATH": f"{commands}:{os.environ['PATH']}"}
        done = subprocess.run(
            [commands / "sbatch", "--wait", "job.sh"], cwd=tmp_path, env=environment, timeout=120, check=False
        )
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
