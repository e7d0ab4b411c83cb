#!/usr/bin/env python3
"""提交，等它结束，看它的输出；用掉的占要的几成。"""

from scns_conductor.client import Client

with Client() as client:
    job_id = client.submit({"name": "hello", "memory_per_node": "100M", "time_limit": "5"}, "#!/bin/bash\necho 你好\n")
    job = client.wait(job_id, timeout_s=120)
    print(job.state, job.exit_code, client.output(job_id).decode().strip())
