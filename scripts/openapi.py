#!/usr/bin/env python3
"""接口的说明 docs/openapi.json：不带选项写出，--check 只核对（不同则退出码 1）。"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from scns_conductor.api.app import build_app
from scns_conductor.core.settings import Settings

FILE = Path(__file__).parents[1] / "docs" / "openapi.json"


def text() -> str:
    """现在的代码给出的；键的次序是 FastAPI 的，差别一目了然。"""
    with tempfile.TemporaryDirectory() as folder:
        app = build_app(Settings(data_dir=Path(folder)))
    return json.dumps(app.openapi(), ensure_ascii=False, indent=1) + "\n"


def main() -> int:
    """返回退出码。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="只核对")
    if parser.parse_args().check:
        if FILE.read_text() == text():
            return 0
        print(f"{FILE} 与代码不同；执行 make openapi 再提交", file=sys.stderr)
        return 1
    FILE.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
