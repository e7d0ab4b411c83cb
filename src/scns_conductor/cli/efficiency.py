"""scns efficiency：作业要了多少、用了多少，下次怎样要。"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import connected, job_id_argument, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.client.conductor import JsonClient
    from scns_conductor.core.efficiency import Fit

FIELDS = (
    "job_id,array_job_id,array_task_id,array_remaining,name,user_name,account,state,start_time,end_time,suspend_time,"
    "suspended_s,time_limit,allocated_cpus,allocated_memory,cpu_user_s,cpu_system_s,max_rss_kb,tasks,cpus_per_task,"
    "allocated_gres,gpu_s,max_gpu_memory_mb,gpu_energy_j"
)
DEFAULT_MOST = 50
# --saved 缺省看最近多久（秒），至多重放几个作业。
DEFAULT_SAVED_S = 86400
MOST_REPLAYED = 20_000


@click.command()
@job_id_argument(required=False)
@click.option("-u", "--user", help="这个用户的")
@click.option("-A", "--account", help="这个账户的")
@click.option("--since", metavar="TIME", help="此后提交的，如 now-7days；缺省不限")
@click.option("-n", "--most", type=click.IntRange(1, 10_000), default=DEFAULT_MOST, show_default=True, help="至多几个")
@click.option(
    "--saved", is_flag=True, help="照建议要会少等多久：线上最近的历史重放两遍来比（--since 定从何时起，缺省一天）"
)
@json_option
def efficiency(
    job_id: str | None, user: str | None, account: str | None, since: str | None, most: int, saved: bool, as_json: bool
) -> None:
    """作业用掉的 CPU、内存、时间各占要的几成，下次怎样要更合适。

    给作业号，或用 -u、-A 列出最近开始过的；都不给是全部用户的。运行中的是到此刻为止。
    --saved 再说照建议要这些作业会少等多久、别人会少等多久：用线上的调度核心真的重放（同 scns simulate --live）。
    """
    from scns_conductor.cli.field_values import instant

    filters = {"job_id": job_id, "user": user, "account": account, "submit_after": instant(since)}
    with connected() as client:
        found = client.jobs(
            fields=FIELDS, sort="-job_id", most=most, **{name: value for name, value in filters.items() if value}
        )
        jobs = [job for job in found if job.get("start_time")]
        rows = [_measured(job) for job in jobs]
        fits = {str(row["job_id"]): row["fit"] for row in rows if row["hints"]}
        waits = _saved(client, filters["submit_after"], fits) if saved else None
    for row in rows:
        fit = row.pop("fit")
        row["next"] = {"cpus": fit.cpus, "memory_mb": fit.memory_mb, "limit_s": fit.limit_s} if row["hints"] else None
    if as_json:
        print_json({"jobs": rows} if waits is None else {"jobs": rows, "saved": waits})
        return
    from scns_conductor.cli.job_text import job_label
    from scns_conductor.cli.table import show_table

    header = ("作业", "名字", "用户", "状态", "CPU", "内存", "GPU", "时间", "下次")
    shown = [
        (job_label(job), str(job["name"]), str(job["user_name"]), str(job["state"]), _percent(row["cpu"]),
         _percent(row["memory"]), _percent(row["gpu"]), _percent(row["time"]), told("；").join(row["hints"]) or "-")
        for job, row in zip(jobs, rows, strict=True)
    ]  # fmt: skip
    show_table(header, shown, "没有开始过的作业")
    if len(rows) > 1:
        idle = sum(float(row["idle_cpu_s"]) for row in rows) / 3600
        held = sum(float(row["held_cpu_s"]) for row in rows) / 3600
        say(f"合计占了 {held:.2f} CPU·小时，其中 {idle:.2f} 没有用上（{_percent(idle / held if held else None)}）")
    if waits is not None:
        _say_saved(waits)


def _saved(client: "JsonClient", since: str | None, fits: "dict[str, Fit]") -> dict[str, Any]:
    """照建议要会少等多久；历史太长的只看最近的。"""
    from datetime import timedelta

    from scns_conductor.cli.live_history import read_live
    from scns_conductor.core.errors import ConductorError
    from scns_conductor.simulator.right_size import saving
    from scns_conductor.simulator.session import Request, prepare

    begin = since or (datetime.now(UTC) - timedelta(seconds=DEFAULT_SAVED_S)).isoformat()
    history = read_live(client, begin, MOST_REPLAYED)
    try:
        scene = prepare(Request(source=history.trace, live=history.system))
    except ConductorError as error:
        raise click.ClickException(error.detail) from error
    found = saving(history.system, scene.workload.jobs, fits)
    return {
        "changed_jobs": found.changed.jobs, "wait_s": round(found.changed.before_s, 1),
        "wait_as_suggested_s": round(found.changed.after_s, 1),
        "other_jobs": found.others.jobs, "others_wait_s": round(found.others.before_s, 1),
        "others_wait_as_suggested_s": round(found.others.after_s, 1), "replayed_jobs": found.replayed,
        "since": begin, "left_out": history.left_out,
    }  # fmt: skip


def _say_saved(waits: Mapping[str, Any]) -> None:
    if not waits["changed_jobs"]:
        say("没有要改的作业在重放的这一段里；用 --since 往前看")
        return
    say(
        f"重放 {waits['replayed_jobs']} 个作业：其中 {waits['changed_jobs']} 个照建议要，"
        f"它们平均等 {_span(waits['wait_as_suggested_s'])}（原来 {_span(waits['wait_s'])}），"
        f"别人平均等 {_span(waits['others_wait_as_suggested_s'])}（原来 {_span(waits['others_wait_s'])}）"
    )
    if waits["left_out"]:
        say(f"历史太长，只看了最近 {MOST_REPLAYED} 个")


def _span(seconds: float) -> str:
    from scns_conductor.core.units import format_duration

    return format_duration(round(seconds))


def _measured(job: Mapping[str, Any]) -> dict[str, Any]:
    """一个作业的各项（0–1）与建议。"""
    from scns_conductor.cli.job_text import instant
    from scns_conductor.core.efficiency import Fit, Usage, fitting, hints
    from scns_conductor.core.gres import gpu_total

    start, end = instant(job["start_time"]), instant(job.get("end_time")) or datetime.now(UTC)
    run_s = max(0.0, (end - start).total_seconds() - float(job.get("suspended_s") or 0)) if start else 0.0
    measured = job.get("cpu_user_s") is not None
    usage = Usage(
        cpus=int(job.get("allocated_cpus") or 1),
        run_s=run_s,
        cpu_s=float(job["cpu_user_s"]) + float(job.get("cpu_system_s") or 0) if measured else None,
        memory_asked=int(job.get("allocated_memory") or 0) or None,
        memory_peak=None if job.get("max_rss_kb") is None else -(-int(job["max_rss_kb"]) // 1024),
        limit_s=None if job.get("time_limit") is None else float(job["time_limit"]),
        gpus=gpu_total(job.get("allocated_gres")),
        gpu_s=None if job.get("gpu_s") is None else float(job["gpu_s"]),
    )
    return {
        "job_id": job["job_id"], "state": job["state"], "cpu": usage.cpu, "memory": usage.memory, "time": usage.time,
        "gpu": usage.gpu, "gpu_memory_mb": job.get("max_gpu_memory_mb"), "gpu_energy_j": job.get("gpu_energy_j"),
        "held_cpu_s": run_s * usage.cpus, "idle_cpu_s": usage.idle_cpu_s if measured else 0.0,
        "hints": [told(hint) for hint in hints(usage)] if job.get("end_time") else [],
        "fit": fitting(usage) if job.get("end_time") else Fit(),
    }  # fmt: skip


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.0f}%"
