"""schemathesis 的全部检查：系统地走遍每个字段的边界（合乎写法的与不合的），再按回答里的号接着走。

请求多，分在几个文件里，xdist 摊开；SCNS_SCHEMATHESIS_EXAMPLES 设了就一处也不省。
"""

import os
import subprocess
import sys
from pathlib import Path

from running_system import start_system

# 要等调度器按真的队列回答、另起进程算（一次几十毫秒以上）的，另有专门的测试。
SLOW = ("/jobs/plan", "/simulate")
# 作业的字段与 /jobs/submit 同一个模型，边界在那里走过一遍（各八九百个请求）；随机的那个测试仍发它们。
SAME_JOB = ("/jobs/submit/batch", "/crontab", "/triggers")
# 作废的正是这里用的令牌：之后的每个请求都是 401，什么也没有看。它有自己的测试（test_tokens_live）。
OWN_TOKEN = "revoke_all_tokens_delete"
EXAMPLES = os.environ.get("SCNS_SCHEMATHESIS_EXAMPLES")
JOBS = "^/jobs"


def walk(folder: Path, *words: str) -> None:
    """起一个系统（随机的请求会建分区、排空节点，不能共用），对它走一遍；words 是挑端点的选项。"""
    settings_file = Path(__file__).parent / "data" / "schemathesis.toml"
    spared = SLOW if EXAMPLES else (*SLOW, *SAME_JOB)
    with start_system(folder / "s", "--nodes", "1", "--cpus", "8", "--memory", "16G") as system:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings_file),
                "run", f"{system.url}/openapi.json", "-H", f"Authorization: Bearer {system.token}",
                "--checks", "all", "--phases", "coverage,stateful", "--max-examples", EXAMPLES or "2", "--seed", "1",
                "--exclude-operation-id", OWN_TOKEN, *words,
                *(word for path in spared for word in ("--exclude-path", path)),
                "--request-timeout", "60", "--no-color",
            ],
            cwd=system.data_dir, env={**os.environ, "COLUMNS": "160"}, capture_output=True, text=True,
            timeout=None if EXAMPLES else 400, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Stateful" in done.stdout
    assert "Authentication failed" not in done.stdout, done.stdout[-8000:]
