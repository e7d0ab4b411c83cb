"""开机、关机的命令：设置里的一行字 -> 要运行的各条命令与各自管的节点。"""

import shlex
from collections.abc import Iterator, Sequence

from scns_conductor.core.hostlist import compress


def commands(template: str, names: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """（命令，它管的节点）。{node} 一个节点一条；{nodes} 换成节点列表；都没有就接在最后（Slurm 的做法）。"""
    words = shlex.split(template)
    if any("{node}" in word for word in words):
        for name in names:
            yield [word.replace("{node}", name) for word in words], [name]
        return
    listed = compress(names)
    if any("{nodes}" in word for word in words):
        yield [word.replace("{nodes}", listed) for word in words], list(names)
    else:
        yield [*words, listed], list(names)
