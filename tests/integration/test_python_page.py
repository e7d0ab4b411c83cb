"""docs/python.md 与两份 README 的每一段 Python 都能照抄运行。"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from running_system import RunningSystem

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^## (.+?)$|^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("docs/python.md", "README.md", "README.en.md")


def blocks() -> list[tuple[str, str]]:
    """(小节, 代码)。"""
    found, section = [], ""
    for title, code in (block for page in PAGES for block in BLOCK.findall((ROOT / page).read_text())):
        section = title or section
        if code:
            found.append((section, code))
    return found


@pytest.mark.parametrize(("section", "code"), blocks(), ids=[section for section, _ in blocks()])
def test_the_code_runs_as_printed(running_system: RunningSystem, section: str, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=running_system.environment,
        cwd=running_system.data_dir,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or section == "回答是类型"


def test_the_page_has_code() -> None:
    assert len(blocks()) >= 12
