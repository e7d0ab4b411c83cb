"""管理员的 prolog 与 epilog：在作业前后以代理的身份运行，失败则排空节点（slurm.conf 的 Prolog、Epilog）。"""

import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path

PROGRAM_WAIT_S = 300
_OUTPUT_CHARS = 500

logger = logging.getLogger(__name__)


def run_program(program: Path, environment: Mapping[str, str]) -> str | None:
    """运行并等它结束，最多 PROGRAM_WAIT_S 秒；成功返回 None，失败返回中文原因（含输出的末尾）。"""
    try:
        done = subprocess.run(
            [str(program)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_WAIT_S,
            cwd="/",
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return f"{program} 运行超过 {PROGRAM_WAIT_S} 秒"
    except OSError as error:
        return f"{program} 无法运行：{error.strerror}"
    if done.returncode == 0:
        return None
    tail = done.stdout.decode("utf-8", "replace").strip()[-_OUTPUT_CHARS:]
    return f"{program} 以 {done.returncode} 退出" + (f"：{tail}" if tail else "")


def program_environment(job_id: int, user_name: str, uid: int | None, node_name: str) -> dict[str, str]:
    """prolog 与 epilog 的环境：只有认得出作业的几个变量，不带用户的任何值。"""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SLURM_JOB_ID": str(job_id),
        "SLURM_JOBID": str(job_id),
        "SLURM_JOB_USER": user_name,
        "SLURM_JOB_UID": str(uid) if uid is not None else "",
        "SLURMD_NODENAME": node_name,
    }
