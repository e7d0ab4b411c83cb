"""对使用者说一句话：中文写，按使用者的语言说。"""

import click

from scns_conductor.language import told


def say(text: str, *, err: bool = False) -> None:
    """打印一句给人看的话；别人的数据（输出、脚本、名字的表）不经过这里。"""
    click.echo(told(text), err=err)
