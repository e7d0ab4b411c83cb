"""日志：JSON 一行一条，带请求号与作业号，没有秘密。"""

import json
import re
import urllib.request
from urllib.parse import urlsplit

from running_system import RunningSystem, wait_until


def test_lines_are_json_with_request_and_job_id_and_no_secret(watched_system: RunningSystem) -> None:
    system = watched_system
    job_id = system.submit("true")
    request = urllib.request.Request(
        f"{system.url}/jobs/query/{job_id}",
        headers={"Authorization": f"Bearer {system.token}", "X-Request-Id": "ask-42"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["X-Request-Id"] == "ask-42"
    system.wait_state(job_id)
    logs = system.data_dir / "logs"
    wait_until(lambda: "ask-42" in (logs / "api.log").read_text(), 60)

    def lines(name: str) -> list[dict[str, object]]:
        # 最后一行也许才写了一半。
        return [json.loads(line) for line in (logs / name).read_text().rpartition("\n")[0].splitlines() if line.strip()]

    asked = next(line for line in lines("api.log") if line.get("request_id") == "ask-42" and line["event"] == "request")
    assert asked["job_id"] == job_id
    assert asked["status"] == 200
    for name in ("scheduler.log", "agent-node1.log"):
        assert all(lines(name))
    everything = "".join(path.read_text() for path in logs.glob("*.log"))
    assert system.token not in everything
    urls = re.findall(r"SCNS_\w+_URL='(.*)'", (system.data_dir / "environment").read_text())
    passwords = [found for url in urls if (found := urlsplit(url).password)]
    assert passwords
    assert not any(password in everything for password in passwords)
