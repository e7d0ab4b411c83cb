#!/usr/bin/env python3
"""边跑边看输出；连接断了从断处接着。"""

import sys

from scns_conductor.client import Client

with Client() as client:
    job_id = client.submit({"name": "steps"}, "for i in 1 2 3; do echo 第 $i 步; sleep 0.2; done\n")
    for part in client.tail(job_id):
        sys.stdout.write(part.decode())
        sys.stdout.flush()
