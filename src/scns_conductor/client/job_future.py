"""一个调用的 Future，与它没有结果时的错误。"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from scns_conductor.remote_call import read_result, without_frames

if TYPE_CHECKING:
    from scns_conductor.client.executor import ConductorExecutor

T = TypeVar("T")


class JobFailed(Exception):
    """作业没有留下结果就结束了：被取消、超时、内存不够、节点坏了、没有那个 Python。"""

    def __init__(self, job_id: str, state: str, reason: str, output: str = "") -> None:
        told = f"作业 {job_id} {state}" + (f"：{reason}" if reason else "")
        super().__init__(told + (f"\n{output}" if output else ""))
        self.job_id, self.state, self.reason, self.output = job_id, state, reason, output

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job_id, self.state, self.reason, self.output)


class JobFuture(Future[T]):
    """一个调用的 Future；job_id 是它的作业（映射的是数组任务，如 12_3）。可以作为别的调用的参数。"""

    def __init__(self, executor: "ConductorExecutor", number: str, job_id: str, needs: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self._executor, self.number, self.job_id, self.needs = executor, number, job_id, needs
        self._lock, self._told = threading.Lock(), False

    @property
    def place(self) -> tuple[str, str, str | None]:
        """节点上在哪里找得到它的结果。"""
        folder = self._executor.folder
        return self.number, self.job_id, None if folder is None else str(folder)

    def cancel(self) -> bool:
        """取消作业，不论有没有开始；已经结束的返回 False。"""
        if self.done():
            return self.cancelled()
        self._executor.client.cancel(self.job_id)
        return self.drop()

    def drop(self) -> bool:
        """作业已经取消：这里也取消，等着的（concurrent.futures.wait）得到消息。"""
        dropped = super().cancel()
        self.begins()
        return dropped

    def begins(self) -> bool:
        """要交结果了；已经取消的是假，并告诉等着的，只一次。"""
        with self._lock:
            if self._told or (self.done() and not self.cancelled()):
                return False
            self._told = not self.set_running_or_notify_cancel()
            return not self._told

    def running(self) -> bool:
        """作业此刻在跑；问一次服务器。"""
        return not self.done() and self._executor.client.job(self.job_id).state == "RUNNING"

    def _repr_html_(self) -> str:
        from scns_conductor.client.html import job_html, lines_html

        return job_html(self._executor.client.job(self.job_id)) + lines_html(self.output())

    def output(self) -> str:
        """到现在为止 print 出来的。"""
        return without_frames(self._executor.client.output(self.job_id)).decode(errors="replace")


def given(future: JobFuture[Any], arrived: Callable[[str], bytes | None] | None) -> bool:
    """目录里已经有它的结果：交出，返回真。"""
    data = arrived(future.number) if arrived is not None else None
    if data is None:
        return False
    settle(future, data)
    return True


def settle(future: JobFuture[Any], data: bytes) -> None:
    """交出结果或异常；已经取消的不变。"""
    if not future.begins():
        return
    try:
        future.set_result(read_result(data))
    except BaseException as error:
        future.set_exception(error)


def fail(future: JobFuture[Any], error: Exception) -> None:
    """没有结果：失败。"""
    # 依赖的失败了：原因是它的异常。
    for need in future.needs:
        if need.done() and not need.cancelled():
            error.__cause__ = error.__cause__ or need.exception()
    if future.begins():
        future.set_exception(error)
