"""scontrol top：把几个作业排到同一个用户、分区、账户、QOS 的别的作业前面，只加 nice，所以自己就能做。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.client import ClientError
from scns_conductor.slurm.control.control_nodes import slurm_call
from scns_conductor.slurm.parse.hosts import split_list
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.queue.queue_priority import with_priorities
from scns_conductor.slurm.session import Fatal, connect, slurm_error

_FIELDS = "job_id,array_job_id,array_task_id,het_job_id,user_name,partition,account,qos,priority,nice,state,hold"
_SAME = ("user_name", "partition", "account", "qos")


def top(_parsed: Parsed, words: list[str]) -> int:
    """scontrol top 3,1：照写的次序排在最前；最后一个之后是其余的，它们之间的次序不变。"""
    wanted = [job for word in words for job in split_list(word)]
    if not wanted:
        raise Fatal("too few arguments for keyword:top", prefix=None)
    with connect() as client:
        try:
            first = client.job(wanted[0])
        except ClientError as error:
            raise Fatal(f"{slurm_error(error)} for job {wanted[0]}", prefix=None) from None
        if first["state"] == "PENDING" and first["hold"] is not None:
            raise Fatal(f"Job is in held state, pending scheduler release for job {wanted[0]}", prefix=None)
        found = list(client.jobs(user=first["user_name"], state="PENDING", fields=_FIELDS))
        mine = [job for job in found if _movable(job) and all(job[name] == first[name] for name in _SAME)]
        known = {str(job["job_id"]): job for job in with_priorities(client, mine)}
        absent = next((job_id for job_id in wanted if job_id not in known), None)
        if absent is not None:
            raise Fatal(f"Job {absent} is not pending with the same user, partition, account and QOS", prefix=None)
        for job_id, nice in _niced(known, wanted).items():
            slurm_call(f"top {job_id}", lambda job_id=job_id, nice=nice: client.update(job_id, {"nice": nice}))  # type: ignore[misc]
    return 0


def _movable(job: Mapping[str, Any]) -> bool:
    # 列了几个分区的、保留着的不动（scontrol(1)）。
    return "," not in job["partition"] and job["hold"] is None and job["het_job_id"] is None


def _niced(jobs: Mapping[str, Mapping[str, Any]], wanted: Sequence[str]) -> dict[str, int]:
    """作业 -> 新的 nice，只有变了的。优先级减去多加的 nice，就是新的优先级。"""
    # 先提交先排时没有优先级：一样高，先后照作业号，只有 nice 不同。
    now = {name: -job["nice"] if job["priority"] is None else job["priority"] for name, job in jobs.items()}
    found: dict[str, int] = {}
    ceiling: float | None = None
    for name in dict.fromkeys(wanted):
        down = 0 if ceiling is None else max(0, int(now[name] - ceiling) + 1)
        ceiling = now[name] - down
        if down:
            found[name] = jobs[name]["nice"] + down
    rest = [name for name in jobs if name not in wanted]
    assert ceiling is not None
    down = max((int(now[name] - ceiling) + 1 for name in rest), default=0)
    if down > 0:
        # 其余的一起往后挪同样多：它们之间谁先谁后不变。
        found |= {name: jobs[name]["nice"] + down for name in rest}
    return found
