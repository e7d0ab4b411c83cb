#!/usr/bin/env python3
"""由代码写出的：接口的说明 docs/openapi.json、由它而来的客户端的类型、cluster.yaml 的 docs/cluster.schema.json、
docs/roles.md 的表、各表的列 statements/table_columns.py。

不带选项写出，--check 只核对（不同则退出码 1）。"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import client_types
import table_columns

from scns_conductor.api.app import build_app
from scns_conductor.api.cluster_file import ClusterFile
from scns_conductor.api.roles import rows_of_table
from scns_conductor.core.settings import Settings

FILE = Path(__file__).parents[1] / "docs" / "openapi.json"
# 谁能用哪个端点；表以下是写出来的。
ROLES = FILE.with_name("roles.md")
TABLE = "| 端点 | "
SCHEMA = FILE.with_name("cluster.schema.json")


def files() -> dict[Path, str]:
    """现在的代码给出的：文件 -> 内容；键的次序是 FastAPI 的，差别一目了然。"""
    with tempfile.TemporaryDirectory() as folder:
        document = build_app(Settings(data_dir=Path(folder))).openapi()
    return {
        FILE: _text(document),
        SCHEMA: _text(ClusterFile.model_json_schema()),
        ROLES: ROLES.read_text().partition(TABLE)[0] + "\n".join(rows_of_table()) + "\n",
        **client_types.files(document),
        **table_columns.files(),
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def main() -> int:
    """返回退出码。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="只核对")
    check = parser.parse_args().check
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    if check:
        for path in stale:
            print(f"{path} 与代码不同；执行 make openapi 再提交", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
