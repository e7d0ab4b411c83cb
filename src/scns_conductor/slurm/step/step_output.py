"""srun 收到的输出与结局怎样呈现：标签、文件、Slurm 的错误行、中断的几步、退出码。"""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.array_spec import format_ranges, merge_ranges
from scns_conductor.core.step_wire import node_of_place
from scns_conductor.slurm.session import say
from scns_conductor.slurm.step.srun_link import StepLink
from scns_conductor.slurm.step.task_files import Destination, TaskFiles

INTERRUPT_WINDOW_S = 1.0
# SIGTERM 之后多久 SIGKILL（Slurm 的 KillWait 加两秒）。
KILL_WAIT_S = 32.0


class StepOutput:
    """一个作业步的 Sink。link 在建好之后填。"""

    link: StepLink
    command = "srun"

    def __init__(
        self,
        step: Mapping[str, Any],
        *,
        label: bool,
        files: Sequence[Destination] = (),
        kill_on_bad_exit: bool = False,
        kill_on_kill: bool = False,
        quit_on_interrupt: bool = False,
        no_kill: bool = False,
        wait_s: float = 0.0,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self._name = f"{step['job_id']}.{step['step_id']}"
        self._label = label
        self._width = len(str(step["tasks"] - 1))
        self._kill_on_bad_exit = kill_on_bad_exit
        self._kill_on_kill = kill_on_kill
        self._quit_on_interrupt = quit_on_interrupt
        self._no_kill = no_kill
        self._wait_s = wait_s
        self._wait_until: float | None = None
        self._kill_at: float | None = None
        self._quiet = quiet
        self._verbose = verbose
        self._partial: dict[tuple[int, bool], bytes] = {}
        self._statuses: dict[str, dict[int, int]] = defaultdict(dict)
        self._running = {rank for node in step["nodes"] for rank in node["tasks"]}
        self._code = 0
        self._killed = False
        self._interrupted_at: float | None = None
        self._files = TaskFiles()
        for destination in files:
            self._files.add(destination)

    # ---- Sink ----

    def output(self, rank: int, data: bytes, *, error: bool) -> None:
        """一段输出；加标签时攒成整行。"""
        if not self._label:
            self._write(rank, data, error=error)
            return
        lines = (self._partial.pop((rank, error), b"") + data).split(b"\n")
        if lines[-1]:
            self._partial[rank, error] = lines[-1]
        mark = f"{rank:{self._width}}: ".encode()
        self._write(rank, b"".join(mark + line + b"\n" for line in lines[:-1]), error=error)

    def exited(self, node: str, rank: int, status: int) -> None:
        """一个任务结束了。"""
        self._running.discard(rank)
        self._statuses[node][rank] = status
        code = os.waitstatus_to_exitcode(status)
        self._code = max(self._code, 128 - code if code < 0 else code)
        if self._wait_s and self._wait_until is None and self._running:
            self._wait_until = time.monotonic() + self._wait_s
        # --oom-kill-step：内核因内存超限杀的就是 SIGKILL；别的节点上的也结束。
        bad = self._kill_on_bad_exit or (self._kill_on_kill and status & 0x7F == signal.SIGKILL)
        if status and bad and not self._killed and self._running:
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
            where = node_of_place(node)
            say(self.command, f"error: {where}: {_tasks(lost)}: Lost contact or failed to launch")
            if self._running and not self._no_kill:
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

    def aborted(self, code: int) -> None:
        """MPI_Abort：全部任务都结束。"""
        self._code = max(self._code, code & 0xFF)
        if not self._killed:
            self._terminate("")

    def wait_s(self) -> float | None:
        """到 --wait 的时候，或结束的宽限到头，还有多久。"""
        due = [moment for moment in (self._wait_until, self._kill_at) if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def tick(self) -> None:
        """等够了，还在的都结束；不理 SIGTERM 的杀掉。"""
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            self.link.send_signal(signal.SIGKILL)
        if self._wait_until is None or time.monotonic() < self._wait_until:
            return
        self._wait_until = None
        if self._running and not self._killed:
            say(self.command, f"First task exited {self._wait_s:g}s ago")
            say(self.command, f"StepId={self._name} {_tasks(sorted(self._running))}: running")
            self._terminate(f"Terminating StepId={self._name}")

    # ---- 结束 ----

    def finish(self) -> int:
        """余下的半行写掉；返回退出码。"""
        for (rank, error), rest in sorted(self._partial.items()):
            self._write(rank, f"{rank:{self._width}}: ".encode() + rest + b"\n", error=error)
        self._files.close()
        return self._code

    def _interrupt(self) -> None:
        now = time.monotonic()
        if self._quit_on_interrupt or (
            self._interrupted_at is not None and now - self._interrupted_at < INTERRUPT_WINDOW_S
        ):
            if self._killed:
                say(self.command, "forcing job termination")
                self.link.send_signal(signal.SIGKILL)
                return
            say(self.command, f"sending Ctrl-C to StepId={self._name}")
            self._killed = True
            self.link.send_signal(signal.SIGINT)
        else:
            say(self.command, "interrupt (one more within 1 sec to abort)")
            say(self.command, f"StepId={self._name} {_tasks(sorted(self._running))}: running")
        self._interrupted_at = now

    def _terminate(self, line: str, *, error: bool = True) -> None:
        if line and not self._quiet:
            say(self.command, line)
        if not self._killed:
            self._killed = True
            self.link.send_signal(signal.SIGCONT)
            self.link.send_signal(signal.SIGTERM)
            self._kill_at = time.monotonic() + KILL_WAIT_S
            if error and not self._quiet:
                say(self.command, "Job step aborted: Waiting up to 32 seconds for job step to finish.")
        else:
            self.link.send_signal(signal.SIGKILL)

    def _tell_node(self, node: str) -> None:
        """不成功的任务（verbose 的成功的也说），同一个节点同一种结局说一行。"""
        groups: dict[str, list[int]] = defaultdict(list)
        where = node_of_place(node)
        for rank, status in self._statuses.pop(node, {}).items():
            if status:
                groups[f"error: {where}: %s: {_fate(status)}"].append(rank)
            elif self._verbose:
                groups[f"launch/slurm: _task_finish: {where}: %s: Completed"].append(rank)
        for line, ranks in groups.items():
            if not self._quiet:
                say(self.command, line.replace("%s", _tasks(sorted(ranks)), 1))

    def _write(self, rank: int, data: bytes, *, error: bool) -> None:
        fd = self._files.fd(rank, error=error)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except BrokenPipeError:
            # 下游（head）不要了：任务也不必再做。
            if not self._killed:
                self._terminate("", error=False)


def _tasks(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"task {ranks[0]}"
    return f"tasks {format_ranges(merge_ranges([(rank, rank + 1) for rank in ranks]), None)}"


def _fate(status: int) -> str:
    if os.WIFSIGNALED(status):
        text = signal.strsignal(os.WTERMSIG(status)) or f"signal {os.WTERMSIG(status)}"
        return f"{text} (core dumped)" if os.WCOREDUMP(status) else text
    return f"Exited with exit code {os.WEXITSTATUS(status)}"
