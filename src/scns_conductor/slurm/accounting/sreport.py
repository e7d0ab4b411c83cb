"""sreport：一段时间的用量（sreport(1)）：cluster、user、job 的报告。数是此刻算的，不必等整点汇总。"""

import itertools
import pwd
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from scns_conductor.core.instants import local_now
from scns_conductor.slurm.parse.line_mode import prompted_lines
from scns_conductor.slurm.parse.options import Parsed, flags, hints, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.table.report_table import rows
from scns_conductor.slurm.table.times import instant, instant_text, past_instant

OPTIONS = [
    *flags("-h --help", "-n --noheader", "-p --parsable"),
    *flags("-P --parsable2", "-V --version", "--usage"),
    *values("-t --time", "-T --tres"),
    *flags("-v --verbose"),
    *hints(flags("-a --all_clusters", "--federation", "--local", "-Q --quiet")),
    *refused(values("-M --cluster --clusters")),
]
# -t 的写法：(除以几秒, 表头里的词, 带不带百分比, 只有百分比)。
_TIMES: dict[str, tuple[int, str, bool, bool]] = {
    "seconds": (1, "Seconds", False, False), "minutes": (60, "Minutes", False, False),
    "hours": (3600, "Hours", False, False), "percent": (1, "", True, True),
    "secper": (1, "Seconds", True, False), "minper": (60, "Minutes", True, False),
    "hourper": (3600, "Hours", True, False),
}  # fmt: skip
_TRES = {
    "cpu": "cpu_s", "mem": "memory_mb_s", "energy": "energy_j", "node": "node_s", "billing": "cpu_s",
    "gres/gpu": "gpu_s",
}  # fmt: skip
_CAPACITY = {"cpu": "cpus", "mem": "memory_mb", "node": "nodes", "billing": "cpus", "gres/gpu": "gpus"}
_REPORTS = {
    "cluster": ("AccountUtilizationByUser", "UserUtilizationByAccount", "UserUtilizationByWckey", "Utilization",
                "WCKeyUtilizationByUser"),
    "job": ("SizesByAccount", "SizesByAccountAndWckey", "SizesByWckey"),
    "reservation": ("Utilization",),
    "user": ("TopUsage",),
}  # fmt: skip
_CONDITIONS = frozenset({"start", "end", "format", "users", "accounts", "topcount", "grouping"})
# sreport(1) 里有、这里没有的条件：不能当作没有写。
_UNSUPPORTED = frozenset({"clusters", "cluster", "gid", "jobs", "nodes", "partitions", "wckeys", "names", "qos"})
_USAGE = "sreport [<OPTION>] [<COMMAND>]\n    Valid report types are: cluster, job, reservation, user"
_RULE = "-" * 80
_GROUPING = "50,250,500,1000"


@dataclass(slots=True)
class Request:
    """一次报告：选项、Key=Value、要的时间单位与 TRES，以及服务器给的数。"""

    parsed: Parsed
    given: dict[str, str]
    words: set[str]
    unit: tuple[int, str, bool, bool]
    tres: list[str]
    since: float = 0.0
    until: float = 0.0
    cluster: str = ""
    usage: list[dict[str, Any]] = field(default_factory=list)
    capacity: dict[str, int] = field(default_factory=dict)

    @property
    def span_s(self) -> float:
        """报告的时段有多长。"""
        return max(0.0, self.until - self.since)

    def total(self, tres: str) -> float:
        """时段里全部节点的量（量·秒）；能耗没有上限，是用掉的合计。"""
        if tres == "energy":
            return sum(float(row["energy_j"]) for row in self.usage)
        return self.capacity[_CAPACITY[tres]] * self.span_s

    def amount(self, value: float, tres: str) -> str:
        """按 -t 的写法；百分比是占全部的。"""
        divisor, _, percent, only = self.unit
        part = f"{value * 100 / self.total(tres) if self.total(tres) else 0:.2f}%"
        number = str(int(value / divisor + 0.5))
        return part if only else f"{number}({part})" if percent else number

    def several(self) -> bool:
        """写了 -T：各 TRES 一行，多一列名字。"""
        return "tres" in self.parsed

    def column(self, name: str) -> tuple[str, int]:
        """数的一列；带百分比的更宽。"""
        return name, 17 if self.unit[2] and not self.unit[3] else 8


def main(words: list[str]) -> int:
    """一条报告；没有命令时从标准输入逐行读。"""
    parsed = parse_or_exit("sreport", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if "version" in parsed:
        from scns_conductor.slurm.shapes.spoken import release

        print(f"slurm {release()}")
        return 0
    if "cluster" in parsed:
        raise Fatal("-M/--cluster is not supported by this system")
    if parsed.arguments:
        return _report(parsed, parsed.arguments)
    code = 0
    for line in prompted_lines("sreport"):
        given = shlex.split(line)
        if given and given[0] in ("exit", "quit", "q"):
            return code
        code = _report(parsed, given) if given else code
    return code


def _report(parsed: Parsed, words: Sequence[str]) -> int:
    if words[0].lower() == "help":
        print(_USAGE)
        return 0
    if words[0].lower() == "version":
        from scns_conductor.slurm.shapes.spoken import release

        print(f"slurm {release()}")
        return 0
    kind = next((name for name in _REPORTS if len(words[0]) >= 1 and name.startswith(words[0].lower())), None)
    if kind is None:
        print(f"invalid keyword: {words[0]}", file=sys.stderr)
        return 1
    if len(words) < 2:
        print(f"too few arguments for keyword:{words[0]}", file=sys.stderr)
        return 1
    names = _REPORTS[kind]
    wanted = words[1].lower() if len(words) > 1 else ""
    exact = [name for name in names if name.lower() == wanted]
    chosen = exact or [name for name in names if wanted and name.lower().startswith(wanted)]
    if not chosen:
        listed = ", ".join(f'"{name}"' for name in names[:-1])
        last = f'"{names[-1]}"' if kind != "user" else '"Top"'
        valid = f"{listed}, and {last}" if listed else last
        print(f"Not valid report {words[1] if len(words) > 1 else ''}", file=sys.stderr)
        print(f"Valid {kind} reports are, {valid}", file=sys.stderr)
        return 1
    draw = _DRAWN.get((kind, chosen[0]))
    if draw is None:
        raise Fatal(f"{kind} {chosen[0]} is not supported by this system: the usage of reservations is not recorded")
    request = _request(parsed, words[2:])
    _load(request)
    title, unit_line, columns, cells = draw(request)
    if "noheader" not in parsed:
        print("\n".join([_RULE, title, unit_line, _RULE]))
    bars = next((key for key, _ in reversed(parsed.pairs) if key in ("parsable", "parsable2")), "")
    columns, cells = _formatted(request, columns, cells)
    for line in rows(columns, cells, header="noheader" not in parsed, bars=bars):
        print(line)
    return 0


def _request(parsed: Parsed, words: Sequence[str]) -> Request:
    given = {key.lower(): value for key, equals, value in (word.partition("=") for word in words) if equals}
    plain = {word.lower() for word in words if "=" not in word}
    for key, value in given.items():
        if key in _UNSUPPORTED:
            raise Fatal(f"{key}= is not supported by this system")
        if key not in _CONDITIONS:
            raise Fatal(f" Unknown condition: {key}={value}", "Use keyword set to modify value", prefix=None)
    name = (parsed.last("time") or "minutes").lower()
    unit = next((value for key, value in _TIMES.items() if key.startswith(name)), None)
    if unit is None:
        raise Fatal(f"unknown time format {name}", prefix=None)
    tres = [part.strip().lower() for part in (parsed.last("tres") or "cpu").split(",")]
    tres = list(_TRES) if "all" in tres else tres
    for one in tres:
        if one not in _TRES:
            raise Fatal(f"TRES {one} is not recorded by this system; use {', '.join(_TRES)}")
    return Request(parsed, given, plain, unit, tres)


def _load(request: Request) -> None:
    """缺省是昨天一整天。"""
    midnight = local_now().replace(hour=0, minute=0, second=0, microsecond=0)
    default = {"start": midnight - timedelta(days=1), "end": midnight}
    moments = {}
    for key, value in default.items():
        text = request.given.get(key)
        try:
            moments[key] = datetime.fromtimestamp(past_instant(text), UTC) if text else value
        except ValueError:
            print(f"Invalid time specification (pos=0): {text}", file=sys.stderr)
            moments[key] = value
    start, end = (instant_text(moments[key].timestamp()) for key in ("start", "end"))
    with connect() as client:
        found = client.usage(start, end)
    request.since = datetime.fromisoformat(found["since"]).timestamp()
    request.until = datetime.fromisoformat(found["until"]).timestamp()
    request.cluster, request.capacity = found["cluster"], found["capacity"]
    if len(request.tres) == len(_TRES) and not request.capacity["gpus"]:
        # all 是这个集群有的全部。
        request.tres.remove("gres/gpu")
    users, accounts = (request.given.get(key, "").lower() for key in ("users", "accounts"))
    request.usage = [
        row
        for row in found["usage"]
        if (not users or row["user_name"].lower() in users.split(","))
        and (not accounts or (row["account"] or "").lower() in accounts.split(","))
    ]


Drawn = tuple[str, str, list[tuple[str, int]], list[list[str]]]


def _span(request: Request, *, seconds: bool = True) -> str:
    first, last = (instant(moment) for moment in (request.since, max(request.since, request.until - 1)))
    return f"{first} - {last}" + (f" ({int(request.span_s)} secs)" if seconds else "")


def _unit_line(request: Request) -> str:
    _, word, percent, only = request.unit
    what = "TRES" if request.several() else "CPU"
    if only:
        return "Usage reported in Percentage of Total"
    return f"Usage reported in {what} {word}" + ("/Percentage of Total" if percent else "")


def _tres_column(request: Request) -> list[tuple[str, int]]:
    return [("TRES Name", 14)] if request.several() else []


def _tres_cell(request: Request, tres: str) -> list[str]:
    return [tres] if request.several() else []


def _utilization(request: Request) -> Drawn:
    """停机的时间没有记录，所以 Down 是 0，空闲是全部减去用掉的。"""
    names = ("Allocated", "Down", "PLND Down", "Idle", "Planned", "Reported")
    cells = []
    for tres in request.tres:
        used = sum(float(row[_TRES[tres]]) for row in request.usage)
        total = request.total(tres)
        amounts = [used, 0.0, 0.0, max(0.0, total - used), 0.0, total]
        shown = [request.amount(value, tres) for value in amounts]
        cells.append([request.cluster, *_tres_cell(request, tres), *shown])
    columns = [("Cluster", 9), *_tres_column(request), *(request.column(name) for name in names)]
    return f"Cluster Utilization {_span(request, seconds=False)}", _unit_line(request), columns, cells


def _proper_name(user: str) -> str:
    try:
        return pwd.getpwnam(user).pw_gecos.split(",")[0]
    except KeyError:
        return ""


def _summed(request: Request, *keys: str) -> dict[tuple[str, ...], dict[str, float]]:
    """按这些列合计。"""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for row in request.usage:
        total = found.setdefault(tuple(str(row[key] or "") for key in keys), dict.fromkeys(_TRES.values(), 0.0))
        for name in total:
            total[name] += float(row[name])
    return found


def _used_columns(request: Request) -> list[tuple[str, int]]:
    energy = [] if request.several() else [request.column("Energy")]
    return [*_tres_column(request), request.column("Used"), *energy]


def _used_cells(request: Request, sums: dict[str, float], tres: str) -> list[str]:
    energy = [] if request.several() else [request.amount(sums["energy_j"], "energy")]
    return [*_tres_cell(request, tres), request.amount(sums[_TRES[tres]], tres), *energy]


def _account_by_user(request: Request) -> Drawn:
    """先是账户自己的合计，再是其下的各用户。"""
    by_account, by_user = _summed(request, "account"), _summed(request, "account", "user_name")
    cells = []
    for (account,), sums in sorted(by_account.items()):
        for tres in request.tres:
            cells.append([request.cluster, account, "", "", *_used_cells(request, sums, tres)])
        for (owner, user), mine in sorted(by_user.items()):
            if owner == account:
                for tres in request.tres:
                    used = _used_cells(request, mine, tres)
                    cells.append([request.cluster, account, user, _proper_name(user), *used])
    columns = [("Cluster", 9), ("Account", 15), ("Login", 9), ("Proper Name", 15), *_used_columns(request)]
    return f"Cluster/Account/User Utilization {_span(request)}", _unit_line(request), columns, cells


def _user_by_account(request: Request) -> Drawn:
    cells = [
        [request.cluster, user, _proper_name(user), account, *_used_cells(request, sums, tres)]
        for (user, account), sums in sorted(_summed(request, "user_name", "account").items())
        for tres in request.tres
    ]
    columns = [("Cluster", 9), ("Login", 9), ("Proper Name", 15), ("Account", 15), *_used_columns(request)]
    return f"Cluster/User/Account Utilization {_span(request)}", _unit_line(request), columns, cells


def _by_wckey(request: Request, *, user_first: bool) -> Drawn:
    keys = ("user_name", "wckey") if user_first else ("wckey", "user_name")
    cells = []
    for key, sums in sorted(_summed(request, *keys).items()):
        user, wckey = key if user_first else reversed(key)
        for tres in request.tres:
            used = [*_tres_cell(request, tres), request.amount(sums[_TRES[tres]], tres)]
            names = [user, _proper_name(user), wckey] if user_first else [wckey, user, _proper_name(user)]
            cells.append([request.cluster, *names, *used])
    login, key_column = [("Login", 9), ("Proper Name", 15)], [("WCKey", 15)]
    middle = [*login, *key_column] if user_first else [*key_column, *login]
    title = "Cluster/User/WCKey" if user_first else "Cluster/WCKey/User"
    columns = [("Cluster", 9), *middle, *_tres_column(request), request.column("Used")]
    return f"{title} Utilization {_span(request)}", _unit_line(request), columns, cells


def _top(request: Request) -> Drawn:
    """用得最多的几个；group 时同一个用户的各账户合在一起。"""
    grouped = "group" in request.words
    found = _summed(request, "user_name") if grouped else _summed(request, "user_name", "account")
    count = int(request.given.get("topcount", "10")) if request.given.get("topcount", "10").isdigit() else 10
    order = sorted(found.items(), key=lambda pair: -pair[1][_TRES[request.tres[0]]])[:count]
    cells = []
    for key, sums in order:
        accounts = sorted({str(row["account"] or "") for row in request.usage if row["user_name"] == key[0]})
        account = ",".join(accounts) if grouped else key[1]
        for tres in request.tres:
            cells.append([request.cluster, key[0], _proper_name(key[0]), account, *_used_cells(request, sums, tres)])
    columns = [("Cluster", 9), ("Login", 9), ("Proper Name", 15), ("Account", 15), *_used_columns(request)]
    return f"Top {count} Users {_span(request)}", _unit_line(request), columns, cells


def _sizes(request: Request, *keys: str) -> Drawn:
    """按作业的 CPU 数分段；PrintJobCount 时是作业数。"""
    if len(request.tres) > 1:
        raise Fatal(
            " Job report only supports a single --tres type.",
            " Generate a separate report for each TRES type.",
            prefix=None,
        )
    text = request.given.get("grouping") or _GROUPING
    try:
        bounds = [0, *sorted(int(word) for word in text.split(","))]
    except ValueError:
        raise Fatal(f"Invalid grouping: {text}", prefix=None) from None
    counting, tres = "printjobcount" in request.words, request.tres[0]
    name = "jobs" if counting else _TRES[tres]
    sums: dict[tuple[str, ...], list[float]] = {}
    for row in request.usage:
        place = max(index for index, bound in enumerate(bounds) if int(row["job_cpus"]) >= bound)
        sums.setdefault(tuple(str(row[key] or "") for key in keys), [0.0] * len(bounds))[place] += float(row[name])
    total = sum(sum(parts) for parts in sums.values())
    cells = []
    for key, parts in sorted(sums.items()):
        shown = [str(int(value)) if counting else request.amount(value, tres) for value in parts]
        share = sum(parts) * 100 / total if total else 0
        cells.append([request.cluster, ":".join(key), *shown, f"{share:.2f}%"])
    pairs = itertools.pairwise(bounds)
    ranges = [*(f"{low}-{high - 1} CPUs" for low, high in pairs), f">= {bounds[-1]} CPUs"]
    label = {"account": "Account", "wckey": "Wckey"}[keys[0]]
    title = "Job Sizes" if keys == ("account",) else "Job Sizes by Wckey"
    columns = [("Cluster", 9), (label, 9), *((text, 13) for text in ranges), ("% of cluster", 12)]
    unit = f"Time reported in {request.unit[1] or 'Percentage of Total'}"
    return f"{title} {_span(request)}", "Units are in number of jobs ran" if counting else unit, columns, cells


_DRAWN: dict[tuple[str, str], Callable[[Request], Drawn]] = {
    ("cluster", "AccountUtilizationByUser"): _account_by_user,
    ("cluster", "UserUtilizationByAccount"): _user_by_account,
    ("cluster", "UserUtilizationByWckey"): lambda request: _by_wckey(request, user_first=True),
    ("cluster", "WCKeyUtilizationByUser"): lambda request: _by_wckey(request, user_first=False),
    ("cluster", "Utilization"): _utilization,
    ("user", "TopUsage"): _top,
    ("job", "SizesByAccount"): lambda request: _sizes(request, "account"),
    ("job", "SizesByAccountAndWckey"): lambda request: _sizes(request, "account", "wckey"),
    ("job", "SizesByWckey"): lambda request: _sizes(request, "wckey"),
}


def _formatted(
    request: Request, columns: list[tuple[str, int]], cells: list[list[str]]
) -> tuple[list[tuple[str, int]], list[list[str]]]:
    """format=名字[%宽]，名字可以写前几个字母；不认识的照 Slurm 报错。"""
    text = request.given.get("format")
    if not text:
        return columns, cells
    chosen: list[int] = []
    widths: dict[int, int] = {}
    known = [name.lower().replace(" ", "") for name, _ in columns]
    for word in text.split(","):
        name, _, width = word.strip().lower().partition("%")
        name = {"accounts": "account", "proper": "propername", "tresname": "tresname"}.get(name, name)
        index = next((index for index, each in enumerate(known) if each.startswith(name)), None)
        if index is None:
            raise Fatal(f" Unknown field '{word.strip()}'", prefix=None)
        chosen.append(index)
        if width.lstrip("-").isdigit():
            widths[index] = abs(int(width))
    return (
        [(columns[index][0], widths.get(index, columns[index][1])) for index in chosen],
        [[row[index] for index in chosen] for row in cells],
    )
