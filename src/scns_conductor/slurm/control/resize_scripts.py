"""作业变小之后，scontrol 在当前目录里写的两份脚本：source 之后环境变量说的就是现在的节点（scontrol(1)）。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.core.task_layout import repeat_list

# 变小之后就不对了的。
_STALE = ("SLURM_NPROCS", "SLURM_NTASKS", "SLURM_TASKS_PER_NODE")


def write_resize_scripts(job: Mapping[str, Any]) -> None:
    """写 slurm_job_N_resize.sh 与 .csh，并说怎样用；写不了的抛 OSError。"""
    parts = [part for part in job["allocations"] if not part["released_at"]]
    values = {
        "SLURM_NODELIST": job["node_list"],
        "SLURM_JOB_NODELIST": job["node_list"],
        "SLURM_NNODES": len(parts),
        "SLURM_JOB_NUM_NODES": len(parts),
        "SLURM_JOB_CPUS_PER_NODE": repeat_list([part["cpus"] for part in parts]),
    }
    name = f"slurm_job_{job['job_id']}_resize"
    with open(f"{name}.sh", "w", encoding="utf-8") as file:
        file.writelines(f'export {variable}="{value}"\n' for variable, value in values.items())
        file.writelines(f"unset {variable}\n" for variable in _STALE)
    with open(f"{name}.csh", "w", encoding="utf-8") as file:
        file.writelines(f'setenv {variable} "{value}"\n' for variable, value in values.items())
        file.writelines(f"unsetenv {variable}\n" for variable in _STALE)
    print("To reset Slurm environment variables, execute")
    print(f"  For bash or sh shells:  . ./{name}.sh")
    print(f"  For csh shells:         source ./{name}.csh")
