"""管理员的 prolog 与 epilog：在作业前后以代理的身份运行，失败则排空节点（slurm.conf 的 Prolog、Epilog）。"""

from scns_conductor.worker.host.program import SYSTEM_PATH


def program_environment(job_id: int, user_name: str, uid: int | None, node_name: str) -> dict[str, str]:
    """prolog 与 epilog 的环境：只有认得出作业的几个变量，不带用户的任何值。"""
    return {
        "PATH": SYSTEM_PATH,
        "SLURM_JOB_ID": str(job_id),
        "SLURM_JOBID": str(job_id),
        "SLURM_JOB_USER": user_name,
        "SLURM_JOB_UID": str(uid) if uid is not None else "",
        "SLURMD_NODENAME": node_name,
    }
