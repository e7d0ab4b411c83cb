"""混沌测试的短版本（完整的是 make chaos），以及它的裁判：种下的每一种毛病都要看得出来。"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.alone
@pytest.mark.chaos
@pytest.mark.timeout(420)
def test_no_job_is_lost_or_doubled_while_components_are_killed() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "chaos.py"), "--seed", "20261124", "--jobs", "150", "--nodes", "2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert last.endswith("lost=0 doubled=0 leaked=0")
    assert "seed=20261124 jobs=150 " in last
    assert int(last.split("faults=")[1].split()[0]) >= 5
