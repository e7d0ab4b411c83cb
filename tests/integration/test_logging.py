"""日志：JSON 一行一条，带请求号与作业号，没有秘密。"""

import json
import re
import shutil
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from running_system import start_system, wait_until


def test_lines_are_json_with_request_and_job_id_and_no_secret() -> None:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    environment = {"SCNS_LOG_FORMAT": "json", "SCNS_LOG_LEVEL": "DEBUG"}
    with start_system(
        scratch / "s", "--nodes", "1", "--cpus", "2", "--memory", "2G", environment=environment
    ) as system:
        job_id = system.submit("true")
        request = urllib.request.Request(
            f"{system.url}/jobs/query/{job_id}",
            headers={"Authorization": f"Bearer {system.token}", "X-Request-Id": "ask-42"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["X-Request-Id"] == "ask-42"
        system.wait_state(job_id)
        log = scratch / "s" / "logs" / "api.log"
        wait_until(lambda: "ask-42" in log.read_text(), 60)
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
        asked = next(line for line in lines if line.get("request_id") == "ask-42" and line["event"] == "request")
        assert asked["job_id"] == job_id
        assert asked["status"] == 200
        for name in ("scheduler.log", "agent-node1.log"):
            assert all(json.loads(line) for line in (log.parent / name).read_text().splitlines() if line.strip())
        everything = "".join(path.read_text() for path in log.parent.glob("*.log"))
        assert system.token not in everything
        urls = re.findall(r"SCNS_\w+_URL='(.*)'", (scratch / "s" / "environment").read_text())
        passwords = [found for url in urls if (found := urlsplit(url).password)]
        assert passwords
        assert not any(password in everything for password in passwords)
    shutil.rmtree(scratch)
