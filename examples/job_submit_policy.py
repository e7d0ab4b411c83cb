#!/usr/bin/env python3
"""站点的提交策略：管理员写在设置里的一个文件，收下作业之前问一遍。

    job_submit_plugin = "/etc/scns-conductor/job_submit_policy.py"

返回一句话就是拒绝，说给提交的人；返回 None 是收下。job 的字段名同 POST /jobs/submit，没有写的是 None，改了就照改的：
job.time_limit 是分钟（也可以写 "2:00:00"），job.memory_per_node 是 MiB（也可以写 "16G"）。
"""

import logging
from typing import Any

log = logging.getLogger("job_submit")
DEBUG_MOST_MIN = 30


def job_submit(job: Any, user: Any, partition: Any) -> str | None:
    """提交（批量的、数组的、异构作业的各个部分、试排、定时的也是）。"""
    if job.tres_per_node and job.time_limit is None:
        return "要 GPU 的作业请写时限（--time）"
    if partition is not None and partition.name == "debug" and not user.admin:
        if (job.time_limit or 0) > DEBUG_MOST_MIN:
            return f"debug 分区至多 {DEBUG_MOST_MIN} 分钟；长的请交到别的分区"
        job.qos = None
    if job.account is None and user.default_account is None:
        # 没有账户的都记在访客名下。
        job.account = "guests"
        log.info("guest job of %s", user.name)
    if job.time_limit is None:
        job.time_limit = 60
    return None


def job_modify(job: Any, changes: Any, user: Any) -> str | None:
    """修改；job 是现在的样子，changes 是要改的，可以再改。"""
    if changes.time_limit is not None and job.partition == "debug" and not user.admin:
        return "debug 分区的时限不能改"
    return None
