"""scns slurm：安装 Slurm 的命令。"""

from pathlib import Path

import click

from scns_conductor.cli.say import say


@click.group()
def slurm() -> None:
    """Slurm 的命令：sbatch、squeue、scancel、sinfo、sacct、scontrol 等。"""


@slurm.command()
@click.option("--prefix", required=True, type=click.Path(path_type=Path), help="放链接的目录，如 ~/.local/bin")
def install(prefix: Path) -> None:
    """在目录里建 sbatch、squeue 等链接；已有别的同名文件时不覆盖。"""
    import sys

    from scns_conductor.slurm.install import install as make_links

    try:
        links = make_links(prefix.expanduser().absolute(), sys.executable)
    except OSError as error:
        # 不是系统说的（已有别人的文件）自己就是一句话。
        why = f"写不了 {error.filename or prefix}：{error.strerror}" if error.strerror else str(error)
        raise click.ClickException(why) from error
    say(f"已在 {prefix} 建立 {len(links)} 个命令：{'、'.join(link.name for link in links)}")
    say(f'用法：export PATH="{prefix.expanduser().absolute()}:$PATH"')
