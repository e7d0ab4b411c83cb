"""scns jobs：列出作业。"""

from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.field_values import instant
from scns_conductor.cli.say import say

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient

UNFINISHED = "PENDING,RUNNING,SUSPENDED"


@click.command()
@click.option("-t", "--state", help="只要这些状态，逗号分隔，如 RUNNING,FAILED 或 R,F；all 表示全部")
@click.option("-a", "--all", "everything", is_flag=True, help="连结束的也列，等于 --state all")
@click.option("-u", "--user", help="只要这个用户的")
@click.option("--me", is_flag=True, help="只要自己的")
@click.option("-A", "--account", help="只要这个账户的")
@click.option("-p", "--partition", help="只要这个分区的")
@click.option("-J", "--name", help="只要这个名字的")
@click.option("-w", "--node", help="只要用到这个节点的")
@click.option("-j", "--job", "job_id", help="只要这些作业号，逗号分隔")
@click.option("--since", metavar="TIME", help="只要此后提交的，如 2026-11-24T08:00:00")
@click.option("-S", "--sort", default="-job_id", show_default=True, help="排序的字段，前面加 - 是从大到小")
@click.option("-l", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="最多列几个")
@click.option(
    "--watch",
    "watch_s",
    metavar="[SECONDS]",
    type=click.FloatRange(min=0.2),
    is_flag=False,
    flag_value=2.0,
    help="每隔几秒（缺省 2）重新列一次，Ctrl-C 停止",
)
@json_option
def jobs(
    state: str | None,
    everything: bool,
    user: str | None,
    me: bool,
    account: str | None,
    partition: str | None,
    name: str | None,
    node: str | None,
    job_id: str | None,
    since: str | None,
    sort: str,
    limit: int,
    watch_s: float | None,
    as_json: bool,
) -> None:
    """列出作业；缺省只列没有结束的，最新的在前。"""
    filters: dict[str, Any] = {
        "state": state_names(state, everything=everything or job_id is not None),
        "user": own_name() if me else user,
        "account": account,
        "partition": partition,
        "name": name,
        "node": node,
        "job_id": job_id,
        "submit_after": instant(since),
        "sort": sort,
    }
    if as_json and watch_s is not None:
        raise click.UsageError("--watch 与 --json 不能同用")
    with connected() as client:
        if as_json:
            print_json({"jobs": list(client.jobs(most=limit, **filters))})
        elif watch_s is None:
            _list_once(client, filters, limit)
        else:
            _watch(client, filters, limit, watch_s)


def _list_once(client: "JsonClient", filters: dict[str, Any], limit: int) -> None:
    from scns_conductor.cli.job_text import LIST_FIELDS

    found = list(client.jobs(most=limit + 1, fields=LIST_FIELDS, **filters))
    print_jobs(found[:limit])
    if len(found) > limit:
        say(f"只列出了前 {limit} 个；用 --limit 多列一些，或加条件", err=True)


def _watch(client: "JsonClient", filters: dict[str, Any], limit: int, pause_s: float) -> None:
    """终端里原地重列，不是终端就一张接一张；服务器暂时不在（重启）说一声，接着看。"""
    import sys
    import time

    from scns_conductor.client import Problem, Unreachable

    try:
        while True:
            if sys.stdout.isatty():
                click.clear()
            click.echo(time.strftime("%H:%M:%S"))
            try:
                _list_once(client, filters, limit)
            except (Unreachable, Problem) as error:
                if isinstance(error, Problem) and error.status not in (502, 503, 504):
                    raise
                say(f"scns：{error}", err=True)
            sys.stdout.flush()
            time.sleep(pause_s)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def print_jobs(found: list[dict[str, Any]]) -> None:
    """作业的表，也给 scns show 的数组用。"""
    from datetime import UTC, datetime

    from scns_conductor.cli.job_text import COLOURS, LIST_HEADER, list_row
    from scns_conductor.cli.table import show_table

    now = datetime.now(UTC)
    rows = [list_row(job, now) for job in found]
    show_table(LIST_HEADER, rows, "没有符合条件的作业", [COLOURS.get(str(job.get("state"))) for job in found])


def state_names(given: str | None, *, everything: bool) -> str | None:
    """状态的全名，逗号分隔；全部是 None。不认识的状态是用法错误。"""
    from scns_conductor.core.states import SHORT_STATES, JobState

    if given is None:
        return None if everything else UNFINISHED
    if given.lower() == "all" or everything:
        return None
    short = {text: state.value for state, text in SHORT_STATES.items()}
    full = {state.value for state in JobState}
    chosen = []
    for word in given.upper().split(","):
        state = short.get(word.strip(), word.strip())
        if state not in full:
            raise click.BadParameter(f"没有状态 {word}；有 {'、'.join(sorted(full))}", param_hint="--state")
        chosen.append(state)
    return ",".join(chosen)


def own_name() -> str:
    """系统当你是谁：作业归他，不一定是系统的登录名。"""
    from scns_conductor.client import find_endpoint
    from scns_conductor.client.token_claims import user_name_of

    return user_name_of(find_endpoint())
