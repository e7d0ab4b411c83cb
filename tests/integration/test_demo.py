"""make demo 的脚本：从空目录到一张核对过的表，再停得干净。"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.faults
@pytest.mark.timeout(320)
def test_the_demo_ends_as_expected_and_leaves_nothing(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, str(ROOT / "scripts/demo.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]
    assert "61 个作业全部按预期结束" in answer.stdout
    assert "临时数据已删除" in answer.stdout
    assert list(tmp_path.iterdir()) == []
