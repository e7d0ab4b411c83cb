"""--json、--yaml 与 slurmrestd 的外壳：meta、errors 与一个数组（openapi/v0.0.38 的样子）。"""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.slurm.entry import VERSION
from scns_conductor.slurm.parse.options import Parsed

_YEAR, _MONTH, _PATCH = (int(part) for part in VERSION.split("."))


def meta(version: str = "v0.0.38", kind: str = "openapi") -> dict[str, Any]:
    """哪个插件、哪一版 Slurm 的样子；kind 是 openapi 或 openapi/db。"""
    name = "Slurm OpenAPI DB" if kind.endswith("db") else "Slurm OpenAPI"
    return {
        "plugin": {"type": f"{kind}{'' if kind.endswith('db') else '/'}{version}", "name": f"{name} {version}"},
        "Slurm": {"version": {"major": _YEAR, "micro": _PATCH, "minor": _MONTH}, "release": VERSION},
    }


def write_answer(
    parsed: Parsed, key: str, records: Iterable[Mapping[str, Any]], kind: str = "openapi", **others: Any
) -> int:
    """一条记录一行地写到标准输出：十万条也不必先拼成一个大文字。JSON 也是 YAML，--yaml 只多一个开头。"""
    out = sys.stdout
    if "yaml" in parsed and "json" not in parsed:
        out.write("%YAML 1.1\n---\n")
    head = {"meta": meta(kind=kind), "errors": [], **others}
    out.write(json.dumps(head, indent=2)[:-2] + f',\n  "{key}": [')
    mark = "\n"
    for record in records:
        out.write(mark + json.dumps(record, ensure_ascii=False, default=str))
        mark = ",\n"
    out.write("\n  ]\n}\n")
    return 0
