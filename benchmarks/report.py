"""一次运行的结果 -> Markdown。结果的样子见 run.py；没有量的、没有装的照实写。"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from goals import goals, percentile
from processes import ORDER

PEERS = {
    "xargs": "极限：`xargs -P4 bash noop.sh`",
    "scns": "**本系统**",
    "hyperqueue": "HyperQueue（不落盘）",
    "slurm": "Slurm（调到最快）",
    "slurm_default": "Slurm（缺省设置）",
    "rq": "纯 RQ（不落盘）",
}
TITLES = {
    "k": "(k) 有上限、有自己的脚本与输出的作业，槽从很多到与核一样多",
    "a": "(a) 一个数组的空作业",
    "b": "(b) 分别提交的空作业，各有自己的脚本与输出文件",
    "c": "(c) 从提交到脚本的第一行",
    "d": "(d) 提交的速率",
    "e": "(e) 前面压着排队的作业",
    "f": "(f) 历史很长时的读",
    "g": "(g) 许多个模拟的节点",
    "h": "(h) 内存",
    "i": "(i) 多节点的作业，从提交到结束",
    "j": "(j) Debian 的 PostgreSQL（缺省设置）与内嵌的",
}


def spread(values: Sequence[float], digits: int = 0) -> str:
    """中位数（最小–最大）。"""
    return f"{median(values):.{digits}f}（{min(values):.{digits}f}–{max(values):.{digits}f}）"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def markdown(results: Mapping[str, Any]) -> str:
    """整份报告。"""
    found, machine, options = results["scenarios"], results["machine"], results["options"]
    lines = ["# make bench 的一次运行", ""]
    lines += [
        f"{machine['platform']}，{machine['cpus']} 核（{machine['cpu_model']}），内存 {machine['memory_gib']:.0f} GiB，"
        f"Python {machine['python']}；{results['began']}，历时 {results['took_s'] / 60:.0f} 分钟；"
        f"版本 {machine['revision']}。",
        f"开始时机器的负载 {machine['load']}（别的程序在用这台机器时，每秒个数与毫秒都不作数，看比值与 CPU 毫秒）。",
        "",
        "本系统用内嵌的 PostgreSQL，`fsync` 开着，回答 2xx 时已经落盘；各家轮流跑，表里是中位数（最小–最大）。",
        "",
    ]
    if "bars" in results:
        lines += [f"![并排的速率与延迟]({results['bars']})", ""]
    lines += ["## 目标", "", *_goals(found)]
    for key, reason in results["absent"].items():
        lines.append(f"- {PEERS.get(key, key)}：{reason}，没有比。")
    for key, reason in results["errors"].items():
        lines.append(f"- **{TITLES.get(key[:1], key)}没有量成**（{key}）：{reason}")
    lines.append("")
    sections = {"a": _rates, "b": _rates, "c": _latency, "d": _submits, "e": _backlog, "f": _history, "g": _nodes}
    sections |= {"h": _memory, "i": _multinode, "j": _debian, "k": _everyday}
    for key, title in TITLES.items():
        if key in found:
            lines += [f"## {title}", "", *sections[key](found[key], options)]
    return "\n".join(lines).rstrip() + "\n"


def _goals(found: Mapping[str, Any]) -> list[str]:
    words = {True: "达到", False: "**没有达到**", None: "没有量"}
    rows = []
    for goal in goals(found):
        sign = "≥" if goal.at_least else "≤"
        measured = "—" if goal.measured is None else f"{_number(goal.measured)} {goal.unit}".rstrip()
        rows.append(
            [f"({goal.key}) {goal.text}", f"{sign} {goal.target:g} {goal.unit}".rstrip(), measured, words[goal.met]]
        )
    return _table(["", "目标", "量到", ""], rows)


def _rates(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    rows = []
    limit = median(found["xargs"]) if found.get("xargs") else None
    for who, name in PEERS.items():
        if values := found.get(who):
            ratio = f"{median(values) / limit:.2f}" if limit else ""
            rows.append([name, str(found["jobs"][who]), spread(values), ratio])
    lines = _table(["", "一轮几个", "每秒，中位数（范围）", "与极限之比"], rows)
    if cpu := found.get("cpu_ms_per_job"):
        lines += ["本系统每个作业用的 CPU（毫秒）：", ""]
        lines += _table([*cpu, "合计"], [[*(f"{value:.2f}" for value in cpu.values()), f"{sum(cpu.values()):.2f}"]])
    return lines


_KINDS = {
    "bare": "分别的作业，什么上限也没有",
    "memory_1g": "`memory_per_node=1G`",
    "memory_16m": "`memory_per_node=16M`",
    "time_limit": "`time_limit=5`",
    "all": "**内存 16M + 时限 + 标准错误的文件**",
    "array": "数组，什么上限也没有",
    "array_limits": "数组，内存 100M + 时限",
}


def _everyday(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    slots = list(found["slots"])
    rows = [[_KINDS[kind], *(_beside(each["rates"][kind], each["xargs"]) for each in found["slots"].values())]
            for kind in _KINDS]  # fmt: skip
    for who, name in (
        ("hyperqueue_separate", "HyperQueue，分别的作业（不落盘，没有上限）"),
        ("hyperqueue_array", "HyperQueue，一个作业里的任务"),
        ("xargs", "极限：`xargs -P4 bash noop.sh`"),
    ):
        cells = [_beside(each.get(who, []), each["xargs"]) for each in found["slots"].values()]
        rows.append([name, *cells])
    lines = [f"一批 {found['jobs']:,} 个；每秒几个，括号里是与同一次运行的 xargs 之比。", ""]
    lines += _table(["", *(f"{count} 个槽" for count in slots)], rows)
    for count, each in found["slots"].items():
        kinds = [kind for kind in ORDER if any(kind in spent for spent in each["cpu_ms"].values())]
        lines += [f"{count} 个槽时每个作业的 CPU（毫秒，最后一轮）：", ""]
        lines += _table(
            ["", *kinds, "合计"],
            [
                [_KINDS[name], *(f"{spent.get(kind, 0):.2f}" for kind in kinds), f"{sum(spent.values()):.2f}"]
                for name, spent in each["cpu_ms"].items()
            ],
        )
    return lines


def _beside(rates: Sequence[float], limit: Sequence[float]) -> str:
    """每秒几个（与 limit 之比）。"""
    return f"{median(rates):.0f}（{median(rates) / median(limit):.2f}）" if rates else "没有比"


def _latency(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    rows = [
        [PEERS[who], str(len(times)), *(f"{percentile(times, percent):.1f}" for percent in (50, 90, 99, 100))]
        for who, times in found.items()
    ]
    return _table(["毫秒", "次数", "p50", "p90", "p99", "最大"], rows)


def _submits(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    rows = [["单个，8 条长连接", spread(found["single"])]]
    rows.append([f"批量，一次 {found['batch_size']:,} 个", spread(found["batch"])])
    if found.get("slurm"):
        rows.append(["Slurm：8 个同时的 `sbatch`", spread(found["slurm"])])
    return _table(["", "每秒提交几个"], rows)


def _backlog(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, key in (("没有积压", "idle"), (f"{found['pending']:,} 个排队", "loaded")):
        each = found[key]
        times = each["latency_ms"]
        rows.append([name, spread(each["separate"]), f"{median(times):.1f}", f"{percentile(times, 99):.1f}"])
    before, after = found["scheduler_rss_kb"]
    return [
        *_table(["", "(b) 每秒", "(c) p50 ms", "(c) p99 ms"], rows),
        f"提交这 {found['pending']:,} 个到调度器全部看过、写下原因用了 {found['fill_s']:.1f} 秒；调度器的 RSS 从 "
        f"{before / 1024:.0f} 到 {after / 1024:.0f} MiB，每个排队的作业 {found['bytes_per_pending_job']:.0f} 字节。",
        "",
    ]


def _history(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    states = "，".join(f"{state} {count:,}" for state, count in sorted(found["rows"].items()))
    rows = [
        [f"`{name}`" if name.startswith("GET") else name, *(f"{percentile(times, p):.1f}" for p in (50, 99, 100))]
        for name, times in found["reads_ms"].items()
    ]
    commands = [[f"`{name}`", spread(times, 2)] for name, times in found["commands_s"].items()]
    return [
        f"库里有：{states}；写进去用了 {found['fill_s']:.0f} 秒。",
        "",
        *_table(["一条长连接，毫秒", "p50", "p99", "最大"], rows),
        *_table(["命令，从启动到退出", "秒"], commands),
    ]


def _nodes(found: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[str]:
    kinds = [kind for kind in ORDER if any(kind in row["cpu_ms_per_job"] for row in found)]
    rows = [
        [
            f"{row['nodes']:,}", f"{row['wanted_per_s']:,}", f"{row['jobs_per_s']:,.0f}",
            *(f"{row['cpu_ms_per_job'].get(kind, 0):.3f}" for kind in kinds),
        ]
        for row in found
    ]  # fmt: skip
    return [
        *_table(["节点", "要求/秒（每节点 50）", "做到/秒", *(f"{kind} ms/个" for kind in kinds)], rows),
        *(f"- {row['nodes']:,} 个节点时饱和在：{row['bottleneck']}。" for row in found),
        "",
        "节点没有进程，其余都真：总线上的消息、认领、结束、心跳、核对的语句与次数都与真的代理相同；它们也在这台机器上跑，"
        "占去的 CPU 在「假节点」一列。",
        "",
    ]


def _memory(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    last = found["snapshots"][-1]["memory"]
    kinds = [kind for kind in ORDER if kind in last]
    rows = [
        [f"{each['jobs']:,}", *(f"{each['memory'].get(kind, {}).get('rss_kb', 0) / 1024:.1f}" for kind in kinds)]
        for each in found["snapshots"]
    ]
    shared = [f"PSS，{found['snapshots'][-1]['jobs']:,}", *(f"{last[kind]['pss_kb'] / 1024:.1f}" for kind in kinds)]
    return [
        *_table(["跑过的作业", *(f"{kind} MiB" for kind in kinds)], [*rows, shared]),
        "各进程静下来之后的 RSS；最后一行是同一时刻的 PSS（PostgreSQL 的各后端共用缓冲区，RSS 把它重复算了）。",
        f"分段的速率：{'、'.join(f'{rate:.0f}' for rate in found['rates'])} 个/秒。",
        "",
    ]


def _multinode(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    rows = [[f"{nodes} 个节点", f"{len(times)}", spread(times, 2)] for nodes, times in found["single_s"].items()]
    return [
        *_table(["脚本里一个 srun，每节点两个任务", "次数", "秒"], rows),
        f"一次提交 {found['burst_jobs']} 个（2–4 个节点）：每秒 {found['burst_jobs_per_s']:.1f} 个作业、"
        f"{found['burst_tasks_per_s']:.0f} 个任务；每个任务的输出都核对过，各恰好一次。",
        "",
    ]


def _debian(found: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    names = {
        "array": "数组，有上限与自己的输出，每秒",
        "separate": "分别提交，同上，每秒",
        "latency_ms": "提交到第一行，毫秒",
    }
    rows = [
        [names[key], spread(each["embedded"], 1), spread(each["debian"], 1),
         f"{median(each['debian']) / median(each['embedded']):.2f}"]
        for key, each in found.items()
    ]  # fmt: skip
    return _table(["", "内嵌的 18", "Debian 的", "之比"], rows)
