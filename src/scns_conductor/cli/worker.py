"""scns worker：在本机运行节点代理。"""

import click


@click.command()
def worker() -> None:
    """运行本节点的代理：登记、认领并执行作业；SIGTERM 停止代理，作业继续运行。"""
    from scns_conductor.worker.agent import main

    main()
