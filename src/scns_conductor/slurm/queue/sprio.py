"""sprio：排队的作业的优先级由哪些因子组成（sprio(1)）。"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from scns_conductor.slurm.parse.hosts import split_list
from scns_conductor.slurm.parse.options import Parsed, flags, hints, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.table.columns import Field, Known, fields, letters, table
from scns_conductor.slurm.table.job_values import require_own_cluster
from scns_conductor.slurm.table.json_answer import asked_version, structured, write_answer

OPTIONS = [
    *flags("-h --noheader", "-l --long", "-n --norm", "-V --version", "-w --weights", "--help"),
    *flags("--usage"),
    *flags("-v --verbose"),
    *hints(flags("--federation", "--local", "--sibling")),
    *values("-j --jobs", "-o --format", "-O --Format", "-p --partition", "-u --user", "-S --sort", "-M --clusters"),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
_FACTORS = {"A": "age", "F": "fairshare", "J": "job_size", "P": "partition", "Q": "qos", "B": "assoc", "S": "site"}
_HEADERS = {"A": "AGE", "F": "FAIRSHARE", "J": "JOBSIZE", "P": "PARTITION", "Q": "QOS", "B": "ASSOC", "S": "SITE"}
DEFAULT_FORMAT = "%.15i %9r %.10Y %.10S %.10A %.10F %.10J %.10P %.10Q"
LONG_FORMAT = "%.15i %9r %.8u %.8o %.10Y %.10S %.10A %.10B %.10F %.10J %.10P %.10Q %.6N %.20T"
_NAMES = {"jobid": "i", "user": "u", "account": "o", "partition": "r", "priority": "Y", "nice": "N", "tres": "T",
          "age": "A", "fairshare": "F", "jobsize": "J", "qos": "Q", "assoc": "B", "site": "S"}  # fmt: skip

Row = Mapping[str, Any]


def _letters() -> Known:
    found: dict[str, tuple[str, Callable[[Row], str]]] = {
        "i": ("JOBID", lambda row: row["job_id"]),
        "u": ("USER", lambda row: row["user_name"]),
        "o": ("ACCOUNT", lambda row: row["account"]),
        "r": ("PARTITION", lambda row: row["partition"]),
        "Y": ("PRIORITY", lambda row: str(round(row["priority"]))),
        "y": ("PRIORITY", lambda row: f"{row['priority'] / 4294967295:.14f}"),
        "N": ("NICE", lambda row: str(-round(row["factors"].get("nice", 0)))),
        "T": ("TRES", _tres),
    }
    for letter, name in _FACTORS.items():
        found[letter] = (_HEADERS[letter], lambda row, name=name: str(round(row["factors"].get(name, 0))))  # type: ignore[misc]
        # 小写是归一化的：除以权重。
        found.setdefault(letter.lower(), (_HEADERS[letter], lambda row, name=name: _normalised(row, name)))  # type: ignore[misc]
    return {letter: Field(*pair) for letter, pair in found.items()}


def _normalised(row: Row, name: str) -> str:
    weight = row["weights"].get(name) or 0
    return f"{row['factors'].get(name, 0) / weight if weight else 0:.7f}"


def _tres(row: Row) -> str:
    parts = {name: value for name, value in row["factors"].items() if name.startswith("tres/")}
    return ",".join(f"{name.removeprefix('tres/')}={round(value)}" for name, value in parts.items())


def _write_json(parsed: Parsed, rows: list[dict[str, Any]]) -> int:
    """一个作业一条：优先级与各因子（乘以权重之后的）。公开的文档里没有它，键取自各列。"""
    records = [
        {
            "job_id": int(row["job_id"]),
            "user_name": row["user_name"],
            "account": row["account"] or "",
            "partition": row["partition"],
            "priority": round(row["priority"]),
            "factors": {name: round(value) for name, value in sorted(row["factors"].items())},
        }
        for row in rows
    ]
    asked_version(parsed)
    return write_answer(parsed, "openapi_sprio_resp", "priorities", records)


def _sort(rows: list[dict[str, Any]], order: str) -> None:
    """-S：列的字母，前面的为主，带 + 与 -；不写是作业号。"""
    known = _letters()
    for word in reversed([word.strip() for word in order.split(",") if word.strip()]):
        letter = word.lstrip("+-")
        if letter not in known:
            raise Fatal(f"Invalid sort specification: {letter}")
        rows.sort(key=lambda row, read=known[letter].value: _comparable(read(row)), reverse=word[0] == "-")  # type: ignore[misc]


def _comparable(text: str) -> tuple[float, str]:
    """数按大小比，别的按文字。"""
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def main(words: list[str]) -> int:
    """按作业号排；-w 只列权重。"""
    parsed = parse_or_exit("sprio", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sprio [OPTIONS]")
        return 0
    require_own_cluster(parsed.last("clusters"))
    jobs = [word for text in parsed.every("jobs") for word in split_list(text)]
    for word in jobs:
        if not word.isdigit():
            raise Fatal(f"Invalid job id: {word}")
    with connect() as client:
        answer = client.priorities(jobs or None)
    if answer["priority_type"] == "basic":
        print("You are not running a supported priority plugin\n(priority/basic).\n"
              "Only 'priority/multifactor' is supported.", file=sys.stderr)  # fmt: skip
        return 1
    weights = answer["weights"]
    rows = [{**row, "weights": weights} for row in answer["priorities"]]
    for key, name in (("user", "user_name"), ("partition", "partition")):
        wanted = {word for text in parsed.every(key) for word in text.split(",")}
        rows = [row for row in rows if not wanted or row[name] in wanted]
    rows.sort(key=lambda row: int(row["job_id"]))
    _sort(rows, parsed.last("sort") or "")
    if structured(parsed):
        return _write_json(parsed, rows)
    if "weights" in parsed:
        names = ("site", *_FACTORS.values())
        weighted = {"site": 1, **weights}
        blank = dict.fromkeys(("partition", "user_name", "account"), "")
        factors = {name: weighted.get(name, 0) for name in names}
        rows = [{**blank, "job_id": "Weights", "priority": 0, "weights": weights, "factors": factors}]
    shape = LONG_FORMAT if "long" in parsed else DEFAULT_FORMAT
    if "norm" in parsed:
        shape = "%.15i %9r %.10y %.10a %.10f %.10j %.10p %.10q"
    known = _letters()
    if parsed.last("Format"):
        columns = fields(parsed.last("Format") or "", {name: known[letter] for name, letter in _NAMES.items()})
    else:
        columns = letters("sprio", parsed.last("format") or shape, known)
    for line in table(columns, rows, header="noheader" not in parsed):
        print(line)
    return 0
