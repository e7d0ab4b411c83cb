"""--json、--yaml 的回答：哪一版（=v0.0.42，没有写的照 SCNS_SLURM_VERSION）、外壳、一条一条地写出来。"""

import contextlib
import grp
import json
import os
import pwd
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal

Record = Mapping[str, Any]


def structured(parsed: Parsed) -> bool:
    """要 JSON 或 YAML。"""
    return "json" in parsed or "yaml" in parsed


def asked_version(parsed: Parsed) -> str:
    """哪一版 data_parser；list 是列出有哪些（打印之后退出），不认识的抛 Fatal。"""
    from scns_conductor.slurm.shapes.envelope import ALL_VERSIONS
    from scns_conductor.slurm.shapes.spoken import default_parser

    text = parsed.last("json" if "json" in parsed else "yaml") or ""
    word = text.partition("+")[0].removeprefix("data_parser/")
    if word == "list":
        print("Possible data_parser plugins:", *(f"data_parser/{each}" for each in ALL_VERSIONS), sep="\n")
        raise SystemExit(0)
    if not word:
        return default_parser()
    found = word if word.startswith("v") else f"v{word}"
    if found not in ALL_VERSIONS:
        raise Fatal(f"Unable to find plugin: data_parser/{word[:64]}; use one of {', '.join(ALL_VERSIONS)}")
    return found


def moments(version: str) -> dict[str, Any]:
    """slurmctld 的回答里的两个时刻；旧版没有。"""
    import time

    from scns_conductor.slurm.shapes.envelope import OLD_VERSIONS

    now = int(time.time())
    return {} if version in OLD_VERSIONS else {"last_backfill": now, "last_update": now}


def _head(version: str, kind: str) -> dict[str, Any]:
    from scns_conductor.slurm.shapes.envelope import OLD_VERSIONS, meta

    user, group = str(os.geteuid()), str(os.getegid())
    with contextlib.suppress(KeyError):
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    source = os.ttyname(0) if sys.stdin is not None and sys.stdin.isatty() else ""
    if version in OLD_VERSIONS:
        return {"meta": meta(version, kind)}
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    return {"meta": meta(version, "", source=source, user=user, group=group, command=words)}


def write_answer(
    parsed: Parsed,
    table: str,
    key: str,
    records: Iterable[Record] | Record,
    *,
    kind: str = "openapi/slurmctld",
    **others: Any,
) -> int:
    """照 fields.txt 的 table 写到标准输出；key 是记录（一个或许多）所在的键，一条一行地写，十万条也不必先拼好。"""
    from scns_conductor.slurm.shapes.envelope import answer

    version = asked_version(parsed)
    alone = isinstance(records, Mapping)
    whole = answer(table, version, {**others, key: records if alone else []}, _head(version, kind))
    if "json" in parsed:
        _write_json(whole, key, None if alone else records)
    else:
        _write_yaml(whole, key, None if alone else records)
    return 0


def _write_json(whole: Record, key: str, records: Any) -> None:
    out = sys.stdout
    if records is None:
        out.write(json.dumps(whole, indent=2, ensure_ascii=False, default=str) + "\n")
        return
    head, tail = json.dumps(whole, indent=2, ensure_ascii=False, default=str).split(f'"{key}": []', 1)
    out.write(f'{head}"{key}": [')
    mark = "\n"
    for record in records:
        out.write(mark + json.dumps(record, ensure_ascii=False, default=str))
        mark = ",\n"
    out.write(("\n  ]" if mark != "\n" else "]") + tail + "\n")


def _write_yaml(whole: Record, key: str, records: Any) -> None:
    from scns_conductor.slurm.table import yaml_text

    out = sys.stdout
    out.write("%YAML 1.1\n---\n")
    for name, value in whole.items():
        if name != key or records is None:
            out.writelines(f"{line}\n" for line in yaml_text.lines({name: value}))
            continue
        first = True
        for record in records:
            if first:
                out.write(f"{key}:\n")
                first = False
            out.writelines(f"{line}\n" for line in yaml_text.lines([record], 2))
        if first:
            out.write(f"{key}: []\n")
    out.write("...\n")
