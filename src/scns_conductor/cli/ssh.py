"""scns ssh：到运行中的作业里开一个 shell，或运行一条命令；就在它的 cgroup 里，不另要资源。"""

import sys

import click

from scns_conductor.cli.connection import connected

# 登录 shell 是自己的；节点上没有就用 /bin/sh。
_SHELL = ("/bin/sh", "-c", 'test -x "${SHELL:-}" || SHELL=/bin/sh; exec "$SHELL" -l')


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-w", "--node", help="作业的哪个节点，缺省是运行脚本的那个")
@click.argument("job_id", metavar="JOB")
@click.argument("command", metavar="[COMMAND]...", nargs=-1)
def ssh(node: str | None, job_id: str, command: tuple[str, ...]) -> None:
    """进入运行中的作业：没有写命令的是 shell；只写了一个词的（引号里的一行）交给 /bin/sh，同 ssh；几个词的照原样运行。

    在作业的节点上、作业的 cgroup 里，看得见它的进程与 GPU；不占别的步的 CPU，算作业的内存，作业结束它也结束。
    要是自己的作业。
    """
    with connected() as client:
        job = client.job(job_id)
    if job["start_time"] is None or job["end_time"] is not None:
        raise click.ClickException(f"作业 {job_id} 不在运行，状态是 {job['state']}")
    node = node or job["batch_host"]
    from scns_conductor.slurm.entry import main

    words = ["srun", "--overlap", "--quiet", f"--jobid={job_id}", "-N1", "-n1", "--job-name=ssh", "--mem=0"]
    if node is not None:
        words.append(f"--nodelist={node}")
    if sys.stdin.isatty() and sys.stdout.isatty():
        words.append("--pty")
    main([*words, *(("/bin/sh", "-c", *command) if len(command) == 1 else command or _SHELL)])
