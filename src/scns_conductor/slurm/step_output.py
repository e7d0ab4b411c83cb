"""srun 收到的输出与结局怎样呈现：标签、文件、Slurm 的错误行、中断的几步、退出码。"""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.array_spec import format_ranges, merge_ranges
from scns_conductor.slurm.session import Fatal, say
from scns_conductor.slurm.step_link import StepLink

INTERRUPT_WINDOW_S = 1.0


class StepOutput:
    """一个作业步的 Sink。link 在建好之后填。"""

    link: StepLink

    def __init__(
        self,
        step: Mapping[str, Any],
        *,
        label: bool,
        stdout: str | None,
        stderr: str | None,
        append: bool,
        kill_on_bad_exit: bool,
        quit_on_interrupt: bool,
        quiet: bool,
    ) -> None:
        self._name = f"{step['job_id']}.{step['step_id']}"
        self._label = label
        self._width = len(str(step["tasks"] - 1))
        self._kill_on_bad_exit = kill_on_bad_exit
        self._quit_on_interrupt = quit_on_interrupt
        self._quiet = quiet
        self._partial: dict[tuple[int, bool], bytes] = {}
        self._statuses: dict[str, dict[int, int]] = defaultdict(dict)
        self._running = {rank for node in step["nodes"] for rank in node["tasks"]}
        self._code = 0
        self._killed = False
        self._interrupted_at: float | None = None
        self._out = _opened(stdout, append, 1)
        self._error = self._out if stdout is not None and stderr is None else _opened(stderr, append, 2)

    # ---- Sink ----

    def output(self, rank: int, data: bytes, *, error: bool) -> None:
        """一段输出；加标签时攒成整行。"""
        if not self._label:
            self._write(data, error=error)
            return
        lines = (self._partial.pop((rank, error), b"") + data).split(b"\n")
        if lines[-1]:
            self._partial[rank, error] = lines[-1]
        mark = f"{rank:{self._width}}: ".encode()
        self._write(b"".join(mark + line + b"\n" for line in lines[:-1]), error=error)

    def exited(self, node: str, rank: int, status: int) -> None:
        """一个任务结束了。"""
        self._running.discard(rank)
        self._statuses[node][rank] = status
        code = os.waitstatus_to_exitcode(status)
        self._code = max(self._code, 128 - code if code < 0 else code)
        if status and self._kill_on_bad_exit and not self._killed and self._running:
            self._tell_node(node)
            self._terminate(f"First task exited. Terminating job step {self._name}" if code else "")

    def node_done(self, node: str, *, lost: Sequence[int]) -> None:
        """一个节点交代完了；断了的任务算失败，其余节点的也结束（--no-kill 之外 Slurm 的做法）。"""
        self._tell_node(node)
        if not lost:
            return
        self._running -= set(lost)
        self._code = max(self._code, 1)
        if not self._killed:
            say("srun", f"error: {node}: {_tasks(lost)}: Lost contact or failed to launch")
            if self._running:
                self._terminate("")

    def signalled(self, number: int) -> None:
        """SIGINT 要在一秒内来两次才送出去；其余结束的信号立即结束任务；USR1、USR2 原样转。"""
        if number == signal.SIGWINCH:
            size = os.get_terminal_size(0)
            self.link.set_window(size.lines, size.columns)
        elif number in (signal.SIGUSR1, signal.SIGUSR2):
            self.link.send_signal(number)
        elif number == signal.SIGINT:
            self._interrupt()
        else:
            self._terminate("forcing job termination", error=False)

    # ---- 结束 ----

    def finish(self) -> int:
        """余下的半行写掉；返回退出码。"""
        for (rank, error), rest in sorted(self._partial.items()):
            self._write(f"{rank:{self._width}}: ".encode() + rest + b"\n", error=error)
        for fd in {self._out, self._error} - {1, 2}:
            os.close(fd)
        return self._code

    def _interrupt(self) -> None:
        now = time.monotonic()
        if self._quit_on_interrupt or (
            self._interrupted_at is not None and now - self._interrupted_at < INTERRUPT_WINDOW_S
        ):
            if self._killed:
                say("srun", "forcing job termination")
                self.link.send_signal(signal.SIGKILL)
                return
            say("srun", f"sending Ctrl-C to StepId={self._name}")
            self._killed = True
            self.link.send_signal(signal.SIGINT)
        else:
            say("srun", "interrupt (one more within 1 sec to abort)")
            say("srun", f"StepId={self._name} {_tasks(sorted(self._running))}: running")
        self._interrupted_at = now

    def _terminate(self, line: str, *, error: bool = True) -> None:
        if line and not self._quiet:
            say("srun", line)
        if not self._killed:
            self._killed = True
            self.link.send_signal(signal.SIGCONT)
            self.link.send_signal(signal.SIGTERM)
            if error and not self._quiet:
                say("srun", "Job step aborted: Waiting up to 32 seconds for job step to finish.")
        else:
            self.link.send_signal(signal.SIGKILL)

    def _tell_node(self, node: str) -> None:
        """不成功的任务，同一个节点同一种结局说一行。"""
        groups: dict[str, list[int]] = defaultdict(list)
        for rank, status in self._statuses.pop(node, {}).items():
            if status:
                groups[_fate(status)].append(rank)
        for fate, ranks in groups.items():
            if not self._quiet:
                say("srun", f"error: {node}: {_tasks(sorted(ranks))}: {fate}")

    def _write(self, data: bytes, *, error: bool) -> None:
        fd = self._error if error else self._out
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except BrokenPipeError:
            # 下游（head）不要了：任务也不必再做。
            if not self._killed:
                self._terminate("", error=False)


def _opened(path: str | None, append: bool, default: int) -> int:
    if path is None:
        return default
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
    try:
        return os.open(path, flags, 0o666)
    except OSError as error:
        raise Fatal(f"Could not open stdout file: {error.strerror}") from None


def _tasks(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"task {ranks[0]}"
    return f"tasks {format_ranges(merge_ranges([(rank, rank + 1) for rank in ranks]), None)}"


def _fate(status: int) -> str:
    if os.WIFSIGNALED(status):
        text = signal.strsignal(os.WTERMSIG(status)) or f"signal {os.WTERMSIG(status)}"
        return f"{text} (core dumped)" if os.WCOREDUMP(status) else text
    return f"Exited with exit code {os.WEXITSTATUS(status)}"
