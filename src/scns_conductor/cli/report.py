"""scns report：谁用了多少（表、CSV、图），谁白占了多少。"""

import csv
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from scns_conductor.cli.connection import connected, print_json
from scns_conductor.cli.say import say
from scns_conductor.cli.table import printable, show_table, width

GROUPS = ("account", "user", "partition", "qos", "wckey")
_TITLES = {
    "start": "时间", "account": "账户", "user": "用户", "partition": "分区", "qos": "QOS", "wckey": "标签",
    "jobs": "作业", "cpu_h": "CPU·小时", "memory_gib_h": "内存 GiB·小时", "node_h": "节点·小时", "gpu_h": "GPU·小时",
    "energy_kwh": "GPU 能耗 kWh",
}  # fmt: skip
# 图里量的列 -> 回答里的字段与除数。
MEASURES = {
    "cpu_h": ("cpu_s", 3600.0), "memory_gib_h": ("memory_mb_s", 3600.0 * 1024), "node_h": ("node_s", 3600.0),
    "gpu_h": ("gpu_s", 3600.0), "energy_kwh": ("energy_j", 3.6e6),
}  # fmt: skip
_BAR = 40
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_PLAIN_TIMES = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}


@click.group()
def report() -> None:
    """用量的报告：usage 谁用了多少，waste 谁白占了多少。"""


def _outputs(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--since", metavar="TIME", default="now-30day", show_default=True, help="从何时起"),
        click.option("--until", metavar="TIME", default="now", show_default=True, help="到何时为止（不含）"),
        click.option(
            "--format", "form", type=click.Choice(["table", "csv", "json", "chart"]), default="table",
            show_default=True, help="表、CSV、JSON，或一行一条的图",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@report.command()
@_outputs
@click.option(
    "--by", default="account,user", show_default=True, help=f"按什么分：{','.join(GROUPS)} 里的几个，逗号分隔"
)
@click.option("--every", type=click.Choice(["hour", "day", "month"]), help="一小时、一天、一月一格；缺省整段合计")
@click.option("--zone", help="天、月按哪个时区，如 Asia/Shanghai；缺省是这台机器的")
@click.option(
    "--measure", type=click.Choice(list(MEASURES)), default="cpu_h", show_default=True, help="图画哪一样，按它排"
)
def usage(since: str, until: str, form: str, by: str, every: str | None, zone: str | None, measure: str) -> None:
    """各账户、用户、分区、QOS 用了多少 CPU、内存、节点、GPU 的小时，GPU 的能耗（千瓦时）。

    每次尝试都算，挂起的不算，运行中的算到此刻；时段放宽到整点。作业是其间结束的与还在运行的。
    """
    groups = [word.strip() for word in by.split(",") if word.strip()]
    for name in groups:
        if name not in GROUPS:
            raise click.BadParameter(f"没有 {name[:32]}；有 {'、'.join(GROUPS)}", param_hint="--by")
    first, last = _moment(since), _moment(until)
    with connected() as client:
        if every is None:
            found = client.usage(first, last)
            rows = _measured(found["usage"], groups, None)
            rows.sort(key=lambda row: -row[measure])
        else:
            found = client.usage_series(first, last, every=every, by=",".join(groups), zone=zone or _own_zone())
            rows = _measured(found["rows"], ["start", *groups], every)
    columns = [*(["start"] if every else []), *groups, "jobs", *MEASURES]
    _print(rows, columns, form, measure, {"since": found["since"], "until": found["until"]})


@report.command()
@_outputs
def waste(since: str, until: str, form: str) -> None:
    """要得多用得少的：这段时间里结束的作业，按账户与用户，白占的 CPU·小时多的在前。"""
    with connected() as client:
        found = client.efficiency_report(_moment(since), _moment(until))
    rows = []
    for each in found["users"]:
        asked, used = each["cpu_asked_s"] / 3600, each["cpu_used_s"] / 3600
        memory_asked, memory_used = (each[f"memory_{word}_mb_s"] / 3600 / 1024 for word in ("asked", "used"))
        rows.append(
            {
                "account": each["account"], "user": each["user_name"], "jobs": each["jobs"],
                "idle_cpu_h": asked - used, "cpu_used": used / asked if asked else None,
                "idle_memory_gib_h": max(0.0, memory_asked - memory_used),
                "memory_used": memory_used / memory_asked if memory_asked else None,
                "limit_used": each["limit_used_s"] / each["limit_asked_s"] if each["limit_asked_s"] else None,
            }
        )  # fmt: skip
    columns = ["account", "user", "jobs", "idle_cpu_h", "cpu_used", "idle_memory_gib_h", "memory_used", "limit_used"]
    _print(rows, columns, form, "idle_cpu_h", {"since": found["since"], "until": found["until"]})


_TITLES |= {
    "idle_cpu_h": "白占的 CPU·小时", "cpu_used": "CPU 用了", "idle_memory_gib_h": "白占的 GiB·小时",
    "memory_used": "内存用了", "limit_used": "时限用了",
}  # fmt: skip


def _moment(text: str) -> str:
    from scns_conductor.cli.field_values import instant

    return instant(text) or text


def _own_zone() -> str:
    """这台机器的时区的名字；说不出名字的用 UTC。"""
    named = os.environ.get("TZ", "").removeprefix(":")
    if named:
        return named
    path = os.path.realpath("/etc/localtime")
    return path.partition("/zoneinfo/")[2].removeprefix("posix/") or "UTC"


def _measured(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], every: str | None) -> list[dict[str, Any]]:
    """回答的行 -> 按 keys 合起来，秒换成小时。"""
    from datetime import datetime

    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        named = {**row, "user": row.get("user", row.get("user_name"))}
        if every:
            start = row["start"]
            start = start if isinstance(start, datetime) else datetime.fromisoformat(start)
            named["start"] = start.strftime(_PLAIN_TIMES[every])
        key = tuple(named.get(name) or "" for name in keys)
        total = sums.setdefault(key, {**dict(zip(keys, key, strict=True)), "jobs": 0, **dict.fromkeys(MEASURES, 0.0)})
        total["jobs"] += row["jobs"]
        for name, (source, divisor) in MEASURES.items():
            total[name] += float(row[source]) / divisor
    return list(sums.values())


def _print(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: str, measure: str, span: Mapping[str, Any]
) -> None:
    if form == "json":
        print_json({**{name: str(value) for name, value in span.items()}, "rows": [dict(row) for row in rows]})
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_exact(row[name]) for name in columns] for row in rows)
    elif form == "chart":
        _draw(rows, columns, measure)
    else:
        shown = [tuple(_text(name, row[name]) for name in columns) for row in rows]
        show_table([_TITLES[name] for name in columns], shown, "这段时间里没有用量")


def _exact(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        # 表格软件会算它：前面加一撇，看板的 CSV 也这样。
        return f"'{value}"
    return "" if value is None else round(value, 6) if isinstance(value, float) else value


def _text(name: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if name.endswith("_used"):
        return f"{value * 100:.0f}%"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _draw(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], measure: str) -> None:
    """一行一条：名字、条、数。"""
    most = max((row[measure] for row in rows), default=0.0)
    if most <= 0:
        say("这段时间里没有用量", err=True)
        return
    names = columns[: columns.index("jobs")]
    labels = [printable("/".join(str(row[name] or "-") for name in names)) or "-" for row in rows]
    room = max(map(width, labels))
    for label, row in zip(labels, rows, strict=True):
        bar = "█" * round(_BAR * row[measure] / most) or "▏"
        click.echo(f"{label}{' ' * (room - width(label))}  {bar} {row[measure]:.2f}")
