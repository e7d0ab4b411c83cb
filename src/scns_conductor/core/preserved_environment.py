"""srun -E（--preserve-env）：任务里的节点数与任务数照敲命令的环境，不照这一步的。srun 写，节点看。"""

# 写了 -E 的一步的环境里有它，值是 1；任务里没有。
PRESERVE_VARIABLE = "SLURM_PRESERVE_ENV"
# 它管的：一共几个节点、几个任务。
PRESERVED = ("SLURM_JOB_NUM_NODES", "SLURM_NNODES", "SLURM_NPROCS", "SLURM_NTASKS")
