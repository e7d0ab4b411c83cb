"""任务的输入输出：客户送来的输入写给任务并记着是谁的，任务的输出读出来交给客户。"""

from __future__ import annotations

import errno
import os
import selectors

from scns_conductor.core import step_wire as wire
from scns_conductor.worker.step.task_process import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scns_conductor.worker.step.client_link import Link
    from scns_conductor.worker.step.task_process import Task


class TaskStreams:
    """links 是现有的连接（与作业步的主人共用）；send 发给全部客户，lost 是一个断了，closed 是任务的一路输出没有了。"""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        links: list[Link],
        *,
        send: Callable[[bytes], None],
        lost: Callable[[Link], None],
        closed: Callable[[Task], None],
    ) -> None:
        self._selector = selector
        self._links = links
        self._send = send
        self._lost = lost
        self._closed = closed

    def take_input(self, task: Task, link: Link, data: bytes, *, ended: bool) -> None:
        """客户送来的输入；ended 表示没有了。"""
        if task.input_fd is None:
            self._taken(link, len(data))
            return
        task.input += data
        task.input_from.append([link, len(data)])
        task.input_ended = task.input_ended or ended
        self.write_input(task)

    def write_input(self, task: Task) -> None:
        """写得动多少写多少。"""
        fd = task.input_fd
        if fd is None:
            return
        before = len(task.input)
        try:
            while task.input:
                del task.input[: os.write(fd, memoryview(task.input)[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            # 任务不读了：余下的输入丢掉。
            task.input.clear()
            task.input_ended = True
        self._settle_input(task, before - len(task.input))
        watched = fd in self._selector.get_map()
        if task.terminal is not None:
            if watched:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if task.input else 0)
                self._selector.modify(fd, events, ("output", task))
            return
        if task.input and not watched:
            self._selector.register(fd, selectors.EVENT_WRITE, ("input", task))
        elif not task.input and watched:
            self._selector.unregister(fd)
        if task.input_ended and not task.input:
            os.close(fd)
            task.input_fd = None

    def _settle_input(self, task: Task, count: int) -> None:
        """写进去的 count 字节是谁送来的，就告诉谁。"""
        while task.input_from and (count or not task.input_from[0][1]):
            owed = task.input_from[0]
            part = min(count, owed[1])
            owed[1] -= part
            count -= part
            if owed[0] is not None:
                self._taken(owed[0], part)
            if not owed[1]:
                task.input_from.pop(0)

    def _taken(self, link: Link, count: int) -> None:
        if count and link in self._links and not link.send(wire.frame(wire.TAKEN, count)):
            self._lost(link)

    def read_output(self, task: Task, fd: int) -> None:
        """读一次任务的输出，交给客户。"""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # 伪终端的另一头都关了。
            data = b""
        if data:
            self._send(wire.frame(task.outputs[fd], task.rank, data))
        else:
            self.close_output(task, fd)

    def close_output(self, task: Task, fd: int) -> None:
        """这一路没有了。"""
        del task.outputs[fd]
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        os.close(fd)
        if fd == task.terminal:
            task.terminal = task.input_fd = None
        self._closed(task)
