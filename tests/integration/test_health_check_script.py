"""scripts/health_check.py：好的系统退出码 0（--deep 真的跑一个作业），坏了的说出是哪一样。"""

import subprocess
import sys
from pathlib import Path

from running_system import RunningSystem

SCRIPT = Path(__file__).parents[2] / "scripts" / "health_check.py"


def check(system: RunningSystem, *options: str, **changed: str) -> tuple[int, str]:
    written = dict(
        line.split("=", 1) for line in (system.data_dir / "environment").read_text().splitlines() if "=" in line
    )
    settings = {name.removeprefix("export "): value.strip("'\"") for name, value in written.items()}
    done = subprocess.run(
        [sys.executable, SCRIPT, *options],
        env={**system.environment, **settings, **changed},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_good_system_passes_even_with_a_real_job(running_system: RunningSystem) -> None:
    code, text = check(running_system, "--deep")
    assert code == 0, text
    assert "不好" not in text
    assert text.count("正常") == 7


def test_the_exit_code_says_what_is_wrong(running_system: RunningSystem) -> None:
    nowhere = "postgresql://scns:x@127.0.0.1:1/scns"
    code, text = check(running_system, SCNS_DATABASE_URL=nowhere)
    assert code == 1, text
    code, text = check(running_system, SCNS_REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, text.count("不好")) == (3, 1), text
    code, text = check(running_system, SCNS_URL="http://127.0.0.1:1")
    assert (code, text.count("不好")) == (6, 1), text
    assert check(running_system, "--skip-api", SCNS_URL="http://127.0.0.1:1")[0] == 0
