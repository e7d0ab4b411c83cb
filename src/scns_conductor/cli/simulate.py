"""`scns simulate`：重放踪迹。这里只有选项；一切重的东西到真正运行时才导入。"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.say import say

if TYPE_CHECKING:
    from scns_conductor.simulator.policy_choice import PolicyChoice
    from scns_conductor.simulator.report import PolicyResult
    from scns_conductor.simulator.runs import Progress
    from scns_conductor.simulator.session import Request, Scene

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("simulate", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "trace", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="[TRACE]", required=False
)
@click.option("--live", is_flag=True, help="不用 TRACE：取线上系统自己的历史，机器就是它的节点")
@click.option("--since", metavar="TIME", help="--live 只取此后提交的，如 2026-11-24T08:00:00")
@click.option(
    "--policy",
    help="策略，逗号分隔：fifo、easy、easy_predicted、conservative、sjf、wfp3、f1、unicep、multifactor；"
    "也可写 sjf+none 等；"
    "缺省 easy，--live 时缺省 live（线上的次序、权重与回填）",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "swf", "sacct", "history"]),
    default="auto",
    show_default=True,
    help="TRACE 的格式：SWF、sacct -p 的文本、本系统的历史（JSON 或 CSV）",
)
@click.option("--procs", type=click.IntRange(min=1), help="机器的处理器数；缺省取文件头的 MaxProcs")
@click.option("--nodes", multiple=True, metavar="SPEC", help="机器的节点，如 4:64:gpu:2:mem:256G；可写多次")
@click.option("--add-nodes", multiple=True, metavar="SPEC", help="假如加上这些节点，写法同 --nodes；可写多次")
@click.option("--remove-nodes", metavar="HOSTLIST", help="--live：假如没有这些节点，如 node[3-4]")
@click.option("--user-jobs", type=click.IntRange(min=1), help="--live：假如每个用户同时至多运行这么多个作业")
@click.option("--user-cpus", type=click.IntRange(min=1), help="--live：假如每个用户同时至多占这么多 CPU")
@click.option("--cap-time-limit", metavar="TIME", help="假如时限最多这么长，如 24h、2d、1-00:00:00")
@click.option("--scale-load", type=click.FloatRange(0.001, 1000), help="假如负载是这么多倍（压缩到达间隔）")
@click.option(
    "--power",
    multiple=True,
    metavar="TIME",
    help="假如空闲这么久（如 5m）的节点关掉：省多少节点·小时，多等多久；可写多次；"
    "不是 --live 的要用 --nodes 写明几个节点",
)
@click.option("--boot-time", metavar="TIME", default="2m", show_default=True, help="--power：开机要多久，如 90s、5m")
@click.option("--limit", type=click.IntRange(min=1), help="只用最先提交的这么多个作业（清洗之后）")
@click.option("--memory", "use_memory", is_flag=True, help="SWF 的申请内存也计入（要用 --nodes 写明节点内存）")
@click.option("--parallel", type=click.IntRange(min=1), help="几个策略同时跑（一个一个进程）；缺省是 CPU 数")
@click.option("--rlscheduler", is_flag=True, help="照 RLScheduler 论文（SC'20）的循环重现它的表，不用线上的调度核心")
@click.option("--json", "as_json", is_flag=True, help="在标准输出写 JSON")
@click.option("--starts", type=_FILE, help="把每个作业的开始时刻写到这个 CSV：job,start_s")
@click.option("--csv", "jobs_csv", type=_FILE, help="把逐个作业的明细写到这个 CSV")
@click.option("--users", "users_csv", type=_FILE, help="把逐个用户的指标写到这个 CSV")
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), help="把图写到这个目录（要装 matplotlib）")
@click.option("--plot-format", type=click.Choice(["svg", "png"]), default="svg", show_default=True, help="图的格式")
@click.option(
    "--gantt-hours",
    type=click.FloatRange(0.01, 1_000_000),
    default=72.0,
    show_default=True,
    help="甘特图画多少小时（以第一个策略排队最长的时刻为中心）",
)
@click.option("--progress/--no-progress", default=None, help="进度条；缺省在标准错误是终端时显示")
def simulate(trace: Path | None, policy: str | None, **options: Any) -> None:
    """用虚拟时钟重放作业踪迹 TRACE，并排比较策略。

    TRACE 可以是 SWF（可为 .gz）、sacct -p 的文本或本系统的历史；用 --live 则取线上系统自己的：
    节点、分区、许可证、预留、上限、抢占、公平份额、权重与回填都照线上的，actual 一行是实际发生的。
    重放用的就是线上的调度核心。
    """
    from scns_conductor.core.errors import ConductorError
    from scns_conductor.simulator.policy_choice import parse_policies

    if (trace is None) != options["live"]:
        raise click.UsageError("要么写 TRACE，要么写 --live")
    for option in ("since", "remove_nodes", "user_jobs", "user_cpus"):
        if options[option] and not options["live"]:
            raise click.UsageError(f"--{option.replace('_', '-')} 只与 --live 同用")
    try:
        choices = parse_policies(policy or ("live" if options["live"] else "easy"))
        if not options["live"] and any(choice.order == "live" for choice in choices):
            raise ValueError("live 只与 --live 同用")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--policy") from error
    choices = _with_power(choices, options)
    try:
        if options["rlscheduler"]:
            _reproduce_rlscheduler(trace, as_json=options["as_json"])
        else:
            _replay_and_report(trace, choices, options)
    except ConductorError as error:
        raise click.ClickException(error.detail) from error


def _with_power(choices: "list[PolicyChoice]", options: dict[str, Any]) -> "list[PolicyChoice]":
    """各策略加上 --power 的几种；写得不对抛 UsageError。"""
    from scns_conductor.core.replay_words import parse_span
    from scns_conductor.simulator.policy_choice import with_power

    if not options["power"]:
        return choices
    if options["rlscheduler"]:
        raise click.UsageError("--power 不与 --rlscheduler 同用")
    if not options["live"] and not options["nodes"] and not options["add_nodes"]:
        raise click.UsageError("--power 要用 --nodes 写明几个节点，如 --nodes 100:1；一个处理器池关不了一部分")
    try:
        hint = "--power"
        spans = {word: float(parse_span(word)) for word in options["power"]}
        hint = "--boot-time"
        return with_power(choices, spans, float(parse_span(options["boot_time"])))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from error


def _replay_and_report(trace: Path | None, choices: "list[PolicyChoice]", options: dict[str, Any]) -> None:
    import gc
    import os

    from scns_conductor.simulator.runs import actual
    from scns_conductor.simulator.runs import simulate as run
    from scns_conductor.simulator.session import prepare

    _check_outputs(options)
    request = _request(trace, options)
    # 几十万个作业的对象一直留着，又没有环：垃圾回收不必一遍遍地数它们。
    gc.disable()
    try:
        scene = prepare(request)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    gc.freeze()
    gc.enable()
    if not options["as_json"]:
        _say_notes(scene)
    with _progress_bar(scene, len(choices), options["progress"]) as progress:
        results = run(scene, choices, progress, options["parallel"] or os.cpu_count() or 1)
    if scene.live is not None:
        results.insert(0, actual(scene))
    _write_outputs(scene, results, options)


def _check_outputs(options: dict[str, Any]) -> None:
    """写不了的先说，不等跑完。"""
    for name in ("starts", "jobs_csv", "users_csv"):
        path: Path | None = options[name]
        if path is not None and not path.parent.is_dir():
            raise click.UsageError(f"没有目录 {path.parent}，写不了 {path}")
    if options["plots"]:
        from scns_conductor.simulator.plots import load_matplotlib

        load_matplotlib()


def _reproduce_rlscheduler(trace: Path | None, *, as_json: bool) -> None:
    """论文的两张表里这份踪迹的两行。"""
    from dataclasses import asdict

    from scns_conductor.simulator.report import as_rlscheduler_table
    from scns_conductor.simulator.rlscheduler import reproduce
    from scns_conductor.simulator.swf import read_swf

    if trace is None:
        raise click.UsageError("--rlscheduler 要有 SWF 的 TRACE")
    read = read_swf(trace)
    rows = {name: reproduce(read, backfill=backfill) for name, backfill in (("none", False), ("backfill", True))}
    if as_json:
        found = {name: {title: asdict(cell) for title, cell in row.items()} for name, row in rows.items()}
        click.echo(json.dumps({"rlscheduler": found}, ensure_ascii=False))
    else:
        click.echo(as_rlscheduler_table(rows))


def _request(trace: Path | None, options: dict[str, Any]) -> "Request":
    from scns_conductor.cli.connection import connected
    from scns_conductor.cli.field_values import instant
    from scns_conductor.cli.live_history import read_live
    from scns_conductor.core.hostlist import expand
    from scns_conductor.core.replay_words import parse_nodes, parse_span
    from scns_conductor.simulator.session import Request

    for option in ("scale_load", "gantt_hours"):
        if options[option] is not None and math.isnan(options[option]):
            raise click.BadParameter("应是一个数", param_hint="--" + option.replace("_", "-"))
    hint = ""
    try:
        hint = "--nodes"
        nodes = tuple(parse_nodes(text) for text in options["nodes"])
        hint = "--add-nodes"
        add_nodes = tuple(parse_nodes(text) for text in options["add_nodes"])
        hint = "--cap-time-limit"
        cap_s = parse_span(options["cap_time_limit"]) if options["cap_time_limit"] else None
        hint = "--remove-nodes"
        removed = frozenset(expand(options["remove_nodes"] or ""))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from error
    if nodes and options["procs"]:
        raise click.UsageError("--procs 与 --nodes 只能写一个")
    live = None
    if trace is None:
        if nodes or options["procs"]:
            raise click.UsageError("--live 的机器就是线上的节点；要加节点请用 --add-nodes")
        with connected() as client:
            live = read_live(client, instant(options["since"]))
    return Request(
        source=live.trace if live else trace or Path(),
        form=options["form"],
        procs=options["procs"],
        nodes=nodes,
        add_nodes=add_nodes,
        limit=options["limit"],
        cap_time_limit_s=cap_s,
        load_factor=options["scale_load"] or 1.0,
        use_memory=options["use_memory"],
        live=live.system if live else None,
        remove_nodes=removed,
        user_jobs=options["user_jobs"],
        user_cpus=options["user_cpus"],
    )


def _say_notes(scene: "Scene") -> None:
    from scns_conductor.simulator.report import note_lines

    for line in note_lines(scene.trace, scene.workload):
        say(line, err=True)


@contextmanager
def _progress_bar(scene: "Scene", policies: int, wanted: bool | None) -> "Iterator[Progress | None]":
    """进度条只写到标准错误，免得弄脏 JSON。"""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield None
        return
    length = 2 * len(scene.workload.jobs) * policies
    with click.progressbar(
        length=length,
        label="重放",
        file=sys.stderr,
        item_show_func=lambda label: label,
        update_min_steps=max(1, length // 500),
    ) as bar:
        yield lambda label, count: bar.update(count, label)


def _write_outputs(scene: "Scene", results: "list[PolicyResult]", options: dict[str, Any]) -> None:
    from scns_conductor.simulator import report

    jobs = scene.workload.jobs
    if options["starts"]:
        report.write_starts(options["starts"], jobs, results)
    if options["jobs_csv"]:
        report.write_jobs_csv(options["jobs_csv"], jobs, results)
    if options["users_csv"]:
        report.write_users_csv(options["users_csv"], results)
    if options["plots"]:
        _draw(scene, results, options)
    if options["as_json"]:
        click.echo(json.dumps(report.as_json(scene.trace, scene.workload, scene.machine, results), ensure_ascii=False))
    else:
        click.echo(report.as_table(scene.machine, scene.workload, results))


def _draw(scene: "Scene", results: "list[PolicyResult]", options: dict[str, Any]) -> None:
    from scns_conductor.simulator import plots

    jobs, cpus = scene.workload.jobs, scene.machine.cpus
    outcomes = {result.policy: (jobs, result) for result in results if result.metrics.jobs}
    if not outcomes:
        raise click.ClickException("没有一个作业启动，画不出图")
    directory, suffix = options["plots"], options["plot_format"]
    window = plots.busiest_window(jobs, next(iter(outcomes.values()))[1].starts, options["gantt_hours"] * 3600)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        plots.plot_utilization(directory / f"utilization.{suffix}", outcomes, cpus, None)
        plots.plot_queue(directory / f"queue.{suffix}", outcomes, None)
        for label, outcome in outcomes.items():
            title = f"{Path(scene.trace.source).name}: {label}"
            plots.plot_gantt(directory / f"gantt-{label}.{suffix}", title, outcome, cpus, window)
    except OSError as error:
        raise click.ClickException(f"无法写 {directory}：{error.strerror or error}") from error
    say(f"图已写到 {directory}", err=True)
