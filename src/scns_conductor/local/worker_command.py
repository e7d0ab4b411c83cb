"""scns worker：本机的节点代理，以及一个调度领导者的候选。"""

import click


@click.command()
@click.option(
    "--no-scheduler", is_flag=True, help="只运行节点代理，不参选调度领导者（也可设 SCNS_SCHEDULER_ENABLED=false）"
)
@click.option("--no-agent", is_flag=True, help="只参选调度领导者，本机不接作业")
def worker(no_scheduler: bool, no_agent: bool) -> None:
    """运行本节点的代理与调度候选；SIGTERM 停下它们，运行中的作业继续运行，下次启动时接上。"""
    from scns_conductor.core.settings import load_settings

    if no_scheduler and no_agent:
        raise click.UsageError("--no-scheduler 与 --no-agent 不能同用")
    if no_agent:
        from scns_conductor.worker.scheduler.process import main as run_scheduler

        run_scheduler()
        return
    if no_scheduler or not load_settings().scheduler_enabled:
        from scns_conductor.worker.agent.process import main as run_agent

        run_agent()
        return
    from scns_conductor.local.worker_pair import run_worker_pair

    raise SystemExit(run_worker_pair())
