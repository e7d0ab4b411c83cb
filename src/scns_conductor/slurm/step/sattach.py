"""sattach：接到正在运行的作业步，看它此后的输出，给它输入（sattach(1)）；断开不影响任务。"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from scns_conductor.client import JsonClient, Problem
from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.parse.options import flags, hints, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, slurm_error
from scns_conductor.slurm.step.srun_link import Listener, StepLink
from scns_conductor.slurm.step.step_output import StepOutput
from scns_conductor.slurm.step.terminal import raw_terminal

_USAGE = "Usage: sattach [options] <jobid.stepid>"
OPTIONS = [
    *flags("-l --label", "--layout", "--pty", "-Q --quiet", "-v --verbose"),
    *hints(flags("-u --unbuffered")),
    *flags("-V --version", "-h --help", "--usage"),
    *values("--input-filter", "--output-filter", "--error-filter"),
]


class _Watch(StepOutput):
    """只看其中几个任务；Ctrl-C 是离开，不是结束任务。"""

    command = "sattach"

    def __init__(self, step: dict[str, Any], *, label: bool, quiet: bool, only: int | None, only_error: int | None):
        super().__init__(step, label=label, quiet=quiet)
        self._only = {False: only, True: only_error}

    def output(self, rank: int, data: bytes, *, error: bool) -> None:
        """一段输出。"""
        wanted = self._only[error]
        if wanted is None or wanted == rank:
            super().output(rank, data, error=error)

    def signalled(self, number: int) -> None:
        """窗口的大小照转；别的信号都是离开。"""
        if number == signal.SIGWINCH:
            super().signalled(number)
        else:
            self.link.leave()

    def node_done(self, node: str, *, lost: Sequence[int]) -> None:
        """断了的不由这里收场：那是 srun 的事。"""
        super().node_done(node, lost=())


def main(words: list[str]) -> int:
    """返回看到的任务退出码的最大值。"""
    parsed = parse_or_exit("sattach", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if len(parsed.arguments) != 1:
        print(_USAGE)
        raise Fatal("too many parameters")
    job_id, _, step_text = parsed.arguments[0].partition(".")
    if not re.fullmatch(r"\d+([_+]\d+)?\.\d+", parsed.arguments[0], re.ASCII):
        print(_USAGE)
        raise Fatal("Failed to parse stepid from command line options")
    step_id = int(step_text)
    with connect() as client:
        try:
            if "layout" in parsed:
                return _layout(client, job_id, step_id)
            return _watch(client, job_id, step_id, parsed)
        except Problem as problem:
            if problem.code in ("job_not_found", "step_not_found", "step_finished"):
                raise Fatal("Could not get job step info: Invalid job id specified") from problem
            raise Fatal(f"Could not get job step info: {slurm_error(problem)}") from problem


def _layout(client: JsonClient, job_id: str, step_id: int) -> int:
    step = client.step(job_id, step_id)
    print("Job step layout:")
    print(f"\t{step['tasks']} tasks, {len(step['nodes'])} nodes ({compress(step['nodes'])})\n")
    for index, (node, ranks) in enumerate(step["layout"].items()):
        print(f"\tNode {index} ({node}), {len(ranks)} task(s): {' '.join(map(str, ranks))} ")
    return 0


def _watch(client: JsonClient, job_id: str, step_id: int, parsed: Any) -> int:
    listener = Listener(urlsplit(client.url).hostname or "127.0.0.1")
    step = client.attach_step(job_id, step_id, listener.description())
    pty = "pty" in parsed
    output = _Watch(
        step,
        label="label" in parsed and not pty,
        quiet="quiet" in parsed,
        only=_filter(parsed.last("output_filter")),
        only_error=_filter(parsed.last("error_filter")),
    )
    ended: set[str] = set()

    def gone(names: list[str]) -> list[str]:
        # 任务可能在我们连上之前就结束了：不再等。
        found = client.step(job_id, step_id)["pending_nodes"]
        ended.update(name for name in names if name not in found)
        return sorted(ended)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *((signal.SIGWINCH,) if pty else ()))
    with _input(parsed.last("input_filter")) as input_fd, raw_terminal(enabled=pty):
        link = StepLink(
            listener,
            {node["name"]: node["tasks"] for node in step["nodes"]},
            output,
            input_fd=input_fd,
            missing=gone,
            signals=signals,
        )
        output.link = link
        link.run()
    return output.finish()


def _filter(text: str | None) -> int | None:
    """--output-filter 的任务序号；没有写是全部。"""
    if text is None:
        return None
    if not text.isdigit():
        raise Fatal(f'Invalid task filter "{text}"')
    return int(text)


@contextlib.contextmanager
def _input(wanted: str | None) -> Iterator[int | None]:
    """自己的标准输入；--input-filter=none、在后台没有终端可读时没有。"""
    if wanted == "none" or (sys.stdin.isatty() and os.getpgrp() != os.tcgetpgrp(0)):
        yield None
    else:
        yield 0
