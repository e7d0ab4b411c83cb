"""scns worker：本机的节点代理；要的话，再加一个调度领导者的候选。"""

import click


@click.command()
@click.option(
    "--scheduler", is_flag=True, help="本机也参选调度领导者（SCNS_SCHEDULER_ENABLED=true）；API 的机器上本来就有"
)
@click.option("--no-scheduler", is_flag=True, help="只运行节点代理；没有设 SCNS_SCHEDULER_ENABLED 时本来就是")
@click.option("--no-agent", is_flag=True, help="只参选调度领导者，本机不接作业")
def worker(scheduler: bool, no_scheduler: bool, no_agent: bool) -> None:
    """运行本节点的代理；SIGTERM 停下它，运行中的作业继续运行，下次启动时接上。"""
    from scns_conductor.core.settings_snapshot import read_settings

    if no_scheduler and (no_agent or scheduler):
        raise click.UsageError(f"--no-scheduler 与 {'--no-agent' if no_agent else '--scheduler'} 不能同用")
    if no_agent:
        from scns_conductor.worker.scheduler.process import main as run_scheduler

        run_scheduler()
        return
    if no_scheduler or not (scheduler or read_settings().scheduler_enabled):
        from scns_conductor.worker.agent.process import main as run_agent

        run_agent()
        return
    from scns_conductor.local.services import run_services

    raise SystemExit(run_services("scheduler", "agent"))
