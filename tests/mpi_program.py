"""MPI 的测试程序：各个任务的号加一求和，打印一行。"""

_PROGRAM = r"""
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
  @PRINT@;
  MPI_Finalize();
  return 0;
}
"""


def mpi_program(print_call: str) -> str:
    """print_call 是打印那一行的 C 调用；rank、size、sum 是它的。"""
    return _PROGRAM.replace("@PRINT@", print_call)
