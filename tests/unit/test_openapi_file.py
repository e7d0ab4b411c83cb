"""docs/openapi.json 就是代码给出的：改了接口要 make openapi。"""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "openapi.py"


def test_the_committed_file_is_what_the_code_says() -> None:
    checked = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
