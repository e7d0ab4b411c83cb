"""scns submit：提交脚本。"""

import os
from typing import Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.cli.submit_options import click_options, header_options, job_fields, with_optional_values


class SubmitCommand(click.Command):
    """选项在脚本名之前；脚本名之后的都是脚本的参数（sbatch(1)）。"""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """补上省略的值再交给 click。"""
        return super().parse_args(ctx, with_optional_values(args, self.params))


@click.command(
    cls=SubmitCommand,
    context_settings={"help_option_names": ["-h", "--help"], "allow_interspersed_args": False},
    options_metavar="[选项]",
)
@click.argument("file", metavar="[FILE|-]", required=False, type=click.Path())
@click.argument("arguments", metavar="[ARG]...", nargs=-1, type=click.UNPROCESSED)
@click.option("-W", "--wait", is_flag=True, help="等它结束：边等边显示输出与进度，退出码就是作业的")
@click.option("--wrap", metavar="COMMAND", help="提交一条命令，不用写脚本")
@click.option("--test-only", is_flag=True, help="不提交，只问何时、在哪里能开始")
@click.option("--parsable", is_flag=True, help="只打印作业号")
@click.option("-Q", "--quiet", is_flag=True, help="不显示进度")
@json_option
def submit(
    file: str | None,
    arguments: tuple[str, ...],
    wait: bool,
    wrap: str | None,
    test_only: bool,
    parsable: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """提交脚本 FILE，- 是标准输入；脚本名之后的是它的参数。

    脚本里 #SBATCH 与 #SCNS 行的选项与命令行的相同，命令行的优先。
    """
    from scns_conductor.cli.script_input import header_tokens, read_script

    source = read_script(file, wrap)
    written = header_options(header_tokens(source.text))
    wait = wait or written.pop("wait", False)
    if wait and as_json:
        raise click.UsageError("--wait 与 --json 不能同用；--wait 的标准输出是作业的输出")
    written |= {name: value for name, value in options.items() if value is not None}
    job = job_fields(written, os.environ)
    job.setdefault("name", source.name)
    job["current_working_directory"] = os.path.abspath(job.get("current_working_directory") or ".")
    job["submit_host"] = os.uname().nodename
    if arguments:
        job["argv"] = list(arguments)
    with connected() as client:
        if test_only:
            _show_plan(client.plan(job, source.text), as_json)
            return
        job_id = client.submit(job, source.text)
        if job.get("deadline"):
            _warn_late(client.why(job_id))
        if as_json:
            print_json({"job_id": job_id})
        elif parsable:
            click.echo(job_id)
        elif not wait:
            say(f"作业 {job_id} 已提交")
        if wait:
            from scns_conductor.cli.job_wait import wait_and_stream

            raise SystemExit(wait_and_stream(client, job_id, quiet=quiet))


submit.params.extend(click_options())


# 试算的回答里，那句话说过了的，与只对程序有用的。
PLAN_TOLD = frozenset({"text", "endless", "firm", "preempts"})


def _warn_late(why: dict[str, Any]) -> None:
    """照现在的计划赶不上期限的，提交时就说。"""
    if why.get("latest_start_time"):
        # 说的是哪种语言都有这个状态名。
        for line in str(why["text"]).split("\n"):
            if "DEADLINE" in line:
                click.echo(line, err=True)


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    from scns_conductor.cli.job_text import field_pairs
    from scns_conductor.cli.table import render_fields

    if plan["text"] is not None:
        say(plan["text"])
    click.echo(render_fields(field_pairs(plan, skip=PLAN_TOLD)))
