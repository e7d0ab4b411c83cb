"""scns cancel、hold、release、requeue、suspend、resume：对一个或几个作业做一件事。"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import connected, job_ids_argument, json_option, print_json, print_refusal
from scns_conductor.cli.say import say

if TYPE_CHECKING:
    from scns_conductor.client import ControlAction


def _do(
    job_ids: Sequence[str],
    done: str,
    as_json: bool,
    action: "ControlAction",
    conditions: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """一个请求做完，打印结果；有一个没做成，退出码就是 1，其余照做。"""
    acted: list[Any] = []
    errors: Mapping[str, Any] = {}
    if conditions is None or conditions.get("state") != "":
        with connected() as client:
            acted, errors = client.control(action, job_ids, conditions, **options)
    if conditions is not None and not acted and not errors:
        say("没有符合条件的作业", err=True)
    for job_id, error in errors.items():
        print_refusal(job_id, error)
    if as_json:
        print_json({job["job_id"]: job for job in acted})
    else:
        for job in acted:
            say(f"作业 {job['job_id']} {done}，状态 {job['state']}")
    raise SystemExit(1 if errors else 0)


@click.command()
@job_ids_argument(required=False)
@click.option("-u", "--user", help="这个用户的全部（没有结束的）；别人的要管理员的令牌")
@click.option("-t", "--state", help="只要这些状态的，逗号分隔，如 PENDING 或 PD,R；没有 --user 就是自己的")
@click.option("--all", "everything", is_flag=True, help="自己的全部（没有结束的）")
@click.option("-s", "--signal", "signal_name", help="只发这个信号（如 USR1、SIGTERM、10），不取消")
@click.option("-b", "--batch", "batch_only", is_flag=True, help="信号只发给脚本本身，不给它的子进程；与 --signal 同用")
@json_option
def cancel(
    job_ids: tuple[str, ...],
    user: str | None,
    state: str | None,
    everything: bool,
    signal_name: str | None,
    batch_only: bool,
    as_json: bool,
) -> None:
    """取消作业：排队的立即取消，运行的先 SIGTERM 再 SIGKILL；已经结束的不变。

    给作业号，或者用 --user、--state、--all 说明是哪些。
    """
    chosen = everything or user is not None or state is not None
    if bool(job_ids) == chosen:
        raise click.UsageError("要么给作业号，要么用 --user、--state、--all 说明是哪些")
    conditions = _conditions(user, state) if chosen else None
    if signal_name is None:
        if batch_only:
            raise click.UsageError("--batch 要与 --signal 同用")
        _do(job_ids, "已请求取消", as_json, "cancel", conditions)
        return
    name = _signal_name(signal_name)
    target = "batch" if batch_only else "all"
    _do(job_ids, f"已发信号 {name}", as_json, "signal", conditions, signal=name, target=target)


def _conditions(user: str | None, state: str | None) -> dict[str, str]:
    """交给服务器去挑的条件，几万个也是一个请求；没有写状态的，由它看这件事用得上的（取消是没有结束的）。"""
    from scns_conductor.cli.jobs import UNFINISHED, own_name, state_names

    found = {"user": user or own_name()}
    if state is not None:
        named = (state_names(state, everything=False) or UNFINISHED).split(",")
        # 结束了的没有可做的：只写了它们，就是一个也没有。
        found["state"] = ",".join(word for word in named if word in UNFINISHED.split(","))
    return found


def _signal_name(given: str) -> str:
    """信号的短名，如 USR1；不认识是用法错误。"""
    import signal

    try:
        if given.isdigit():
            found = signal.Signals(int(given))
        else:
            found = signal.Signals["SIG" + given.upper().removeprefix("SIG")]
    except (ValueError, KeyError) as error:
        raise click.BadParameter(f"没有信号 {given}；例如 USR1、TERM、10", param_hint="--signal") from error
    return found.name.removeprefix("SIG")


@click.command()
@job_ids_argument()
@json_option
def hold(job_ids: tuple[str, ...], as_json: bool) -> None:
    """保留排队中的作业：留在队列里，但不启动；用 release 放行。"""
    _do(job_ids, "已保留", as_json, "hold")


@click.command()
@job_ids_argument()
@json_option
def release(job_ids: tuple[str, ...], as_json: bool) -> None:
    """放行被保留的作业。"""
    _do(job_ids, "已放行", as_json, "release")


@click.command()
@job_ids_argument()
@json_option
def requeue(job_ids: tuple[str, ...], as_json: bool) -> None:
    """重新排队：运行中的先结束，作业号不变；已结束的再跑一遍。"""
    _do(job_ids, "已请求重新排队", as_json, "requeue")


@click.command()
@job_ids_argument()
@json_option
def suspend(job_ids: tuple[str, ...], as_json: bool) -> None:
    """挂起运行中的作业：进程停住，资源仍占着，时限不走。"""
    _do(job_ids, "已请求挂起", as_json, "suspend")


@click.command()
@job_ids_argument()
@json_option
def resume(job_ids: tuple[str, ...], as_json: bool) -> None:
    """恢复挂起的作业。"""
    _do(job_ids, "已请求恢复", as_json, "resume")
