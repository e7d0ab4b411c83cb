"""作业令牌：作业里的 srun、scontrol 凭它问 API，不用个人的令牌。作业一结束就没有用了。

令牌由节点代理按自己的密钥算出，只在作业的环境里；数据库里只有它的 SHA-256，节点不需要 API 的签名密钥。
"""

import hashlib
import re

PREFIX = "scnsjob"
VARIABLE = "SCNS_JOB_TOKEN"
_TOKEN = re.compile(rf"{PREFIX}\.([1-9][0-9]{{0,18}})\.([0-9]{{1,9}})\.([0-9a-f]{{64}})")
# 数据库里的 bigint 与 integer 装得下的；更大的不会有。
_MOST_JOB_ID, _MOST_ATTEMPT = 2**63 - 1, 2**31 - 1


def job_token(secret: bytes, job_id: int, attempt: int, launch_id: int) -> str:
    """一个作业的一次启动在一个节点上的令牌；secret 是这个节点的。

    数据库恢复之后同号的作业可以是别人的：旧进程的令牌因 launch_id 不同而没有用。
    """
    mac = hashlib.blake2b(f"{job_id}.{attempt}.{launch_id}".encode(), key=secret, digest_size=32).hexdigest()
    return f"{PREFIX}.{job_id}.{attempt}.{mac}"


def token_digest(token: str) -> bytes:
    """存进数据库的摘要。"""
    return hashlib.sha256(token.encode()).digest()


def parse_job_token(token: str) -> tuple[int, int] | None:
    """（作业号, 尝试）；不是作业令牌返回 None。"""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    job_id, attempt = int(match[1]), int(match[2])
    return (job_id, attempt) if job_id <= _MOST_JOB_ID and attempt <= _MOST_ATTEMPT else None
