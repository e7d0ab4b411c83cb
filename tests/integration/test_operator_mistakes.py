"""管理员写错的设置、地址、路径：一句话说清楚哪里不对，以非零退出，从不是经过（traceback），也不印出口令。"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCNS = str(Path(sys.executable).parent / "scns")
AGENT = [sys.executable, "-m", "scns_conductor.worker.agent.process"]


@pytest.mark.parametrize(
    ("command", "variables", "told"),
    [
        ([SCNS, "health"], {"SCNS_URL": "http://[::1"}, "http://[::1"),
        ([SCNS, "config"], {"SCNS_REDIS_URL": "valkey//:hush@h"}, "redis://"),
        ([SCNS, "config"], {"SCNS_NODE_CPUS": "99999999999"}, "SCNS_NODE_CPUS"),
        ([SCNS, "config"], {"SCNS_NODE_NAME": "n[1-3]"}, "节点名"),
        ([SCNS, "up", "--port", "0", "--cpus", "99999999999"], {}, "--cpus"),
        (AGENT, {"SCNS_SCRIPT_DIR": "/proc/nope"}, "SCNS_SCRIPT_DIR"),
        (AGENT, {"SCNS_SPOOL_DIR": "/proc/nope"}, "SCNS_SPOOL_DIR"),
        (AGENT, {"SCNS_SPOOL_DIR": "/proc/nope", "SCNS_SINGLE_USER": "false"}, "SCNS_SPOOL_DIR"),
    ],
    ids=["url", "redis", "cpus", "node-name", "up-cpus", "scripts", "spool", "spool-of-many-users"],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, command: list[str], variables: dict[str, str], told: str) -> None:
    environment = {**os.environ, "SCNS_DATA_DIR": str(tmp_path), "SCNS_LANG": "zh", **variables}
    environment.pop("SCNS_TOKEN", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode not in (0, 70), said
    assert told in said
    for word in ("Traceback", "hush", "Value error"):
        assert word not in said
