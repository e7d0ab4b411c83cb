#!/usr/bin/env python3
"""许多作业：边走边造、成批提交、先结束的先处理。"""

from collections import Counter

from scns_conductor.client import Client

with Client() as client:
    jobs = ({"job": {"name": "many"}, "script": f"exit {n % 3}\n"} for n in range(30))
    job_ids = list(client.submit_many(jobs, batch=10, progress=True))
    codes = Counter(job.exit_code for job in client.as_completed(job_ids, timeout_s=120))
    print(sorted(codes.items()))
