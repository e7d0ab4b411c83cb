"""ConductorExecutor：标准库 concurrent.futures 的接口，每个调用是一个作业。

要 pip install 'scns-conductor[executor]'。
"""

import json
import os
import shlex
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from scns_conductor.client.conductor import Client
from scns_conductor.client.job_calls import TERMINAL_STATES
from scns_conductor.client.problem import ClientError
from scns_conductor.remote_call import RemoteFailure, pickler, read_result, write_whole

P = ParamSpec("P")
T = TypeVar("T")
# 一个结果、一个调用至多多大（字节）。
MOST_BYTES = 64 << 20
# 多久看一遍结束了没有（秒），从密到疏。
FIRST_PAUSE_S = 0.02
MOST_PAUSE_S = 1.0


class JobFailed(Exception):
    """作业没有留下结果就结束了：被取消、超时、内存不够、节点坏了。"""

    def __init__(self, job_id: str, state: str, reason: str) -> None:
        super().__init__(f"作业 {job_id} {state}" + (f"：{reason}" if reason else ""))
        self.job_id, self.state = job_id, state


class JobFuture(Future[T]):
    """一个调用的 Future；job_id 是它的作业（映射的是数组任务，如 12_3）。"""

    def __init__(self, executor: "ConductorExecutor", number: str, job_id: str) -> None:
        super().__init__()
        self._executor, self.number, self.job_id = executor, number, job_id

    def cancel(self) -> bool:
        """取消作业，不论有没有开始；已经结束的返回 False。"""
        if self.done():
            return self.cancelled()
        self._executor.client.cancel(self.job_id)
        return super().cancel()

    def output(self) -> str:
        """到现在为止 print 出来的。"""
        return self._executor.client.output(self.job_id).decode(errors="replace")


class ConductorExecutor(Executor):
    """每个调用是一个作业，map 是一个作业数组；函数、参数与结果经 folder（节点也看得到的目录）。

    name 是这一批的名字：同一个 folder 与 name 的 attach 找回在跑的与做完的，驱动程序死了也不丢、不重。
    resources 是作业的要求（同 POST /jobs/submit 的 job），submit 与 map 可以另给。
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        client: Client | None = None,
        resources: Mapping[str, Any] | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.name = name or f"executor-{uuid.uuid4().hex[:12]}"
        self.client = client or Client(patience_s=300, reconnect_s=300)
        self._folder = Path(folder).absolute() / self.name
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._resources = dict(resources or {})
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._waiting: dict[str, JobFuture[Any]] = {}
        self._closed = False
        self._watcher: threading.Thread | None = None

    @classmethod
    def attach(
        cls, name: str, folder: str | os.PathLike[str], **options: Any
    ) -> "tuple[ConductorExecutor, dict[str, JobFuture[Any]]]":
        """找回这个名字的：(执行器，调用的号 -> Future)。没有来得及提交的用原来的幂等键提交，不会有两个作业。"""
        executor = cls(folder, name=name, **options)
        found: dict[str, JobFuture[Any]] = {}
        for path in sorted(executor._folder.glob("*.job")):
            request = json.loads(path.read_text())
            for future in executor._started(path.stem, request):
                found[future.number] = future
        return executor, found

    def submit(self, fn: Callable[P, T], /, *args: Any, **kwargs: Any) -> "JobFuture[T]":
        """提交一个调用；resources= 是这一个的要求，不传给函数。装不了箱、太大的当场抛 RemoteFailure。"""
        wanted = self._wanted(kwargs.pop("resources", None))
        number = uuid.uuid4().hex
        self._write(number, fn, args, kwargs)
        return self._started(number, self._keep(number, {"job": wanted, "size": None}))[0]

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        resources: Mapping[str, Any] | None = None,
    ) -> Iterator[T]:
        """全部调用是一个作业数组，每个任务做 chunksize 个；结果的次序同参数。"""
        calls = list(zip(*iterables, strict=False))
        if not calls:
            return iter(())
        number = uuid.uuid4().hex
        chunks = [calls[first : first + chunksize] for first in range(0, len(calls), chunksize)]
        for index, chunk in enumerate(chunks):
            self._write(f"{number}-{index}", _each, (fn, chunk), {})
        wanted = {**self._wanted(resources), "array": f"0-{len(chunks) - 1}"}
        futures = self._started(number, self._keep(number, {"job": wanted, "size": len(chunks)}))
        return (result for future in futures for result in future.result(timeout))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """不再收新的；wait 等全部结束，cancel_futures 取消没有结束的。不等也不取消的作业照常跑，之后 attach 得到。"""
        with self._changed:
            self._closed = True
            left = list(self._waiting.values())
            self._changed.notify_all()
        if cancel_futures:
            for future in left:
                future.cancel()
        if wait:
            for future in left:
                _settled(future)

    # ---- 里面 ----

    def _wanted(self, resources: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._closed:
            raise RuntimeError("执行器已经关了，不能再提交")
        here = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        given = {**self._resources, **(resources or {})}
        return {
            "name": self.name,
            "current_working_directory": str(self._folder),
            **given,
            "environment": {**here, **given.get("environment", {})},
        }

    def _write(self, number: str, fn: Callable[..., Any], words: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        head = json.dumps({"python": list(sys.version_info[:2]), "most_bytes": self._most_bytes}).encode()
        try:
            body = pickler().dumps((fn, words, dict(named)))
        except RemoteFailure:
            raise
        except Exception as error:
            raise RemoteFailure(f"函数或参数装不了箱：{error}") from error
        if len(body) > self._most_bytes:
            raise RemoteFailure(f"函数与参数有 {len(body)} 字节，超过上限 {self._most_bytes}；大的数据请放到文件里")
        write_whole(self._folder / f"{number}.call", head, b"\n", body)

    def _keep(self, number: str, request: dict[str, Any]) -> dict[str, Any]:
        """提交之前先记下：驱动程序这时死了，attach 用同一个键再提交。"""
        write_whole(self._folder / f"{number}.job", json.dumps(request).encode())
        return request

    def _started(self, number: str, request: Mapping[str, Any]) -> list[JobFuture[Any]]:
        """提交（提交过的得到原来的作业号），返回各个 Future。"""
        size = request["size"]
        suffix = "" if size is None else "-$SLURM_ARRAY_TASK_ID"
        words = [sys.executable, "-m", "scns_conductor.remote_call", str(self._folder)]
        script = f"#!/bin/bash\nexec {shlex.join(words)} {number}{suffix}\n"
        job_id = self.client.submit(request["job"], script, idempotency_key=f"{self.name}-{number}")
        names = [(number, job_id)] if size is None else [(f"{number}-{n}", f"{job_id}_{n}") for n in range(size)]
        futures: list[JobFuture[Any]] = [JobFuture(self, each, task) for each, task in names]
        with self._changed:
            self._waiting.update((future.number, future) for future in futures)
            self._changed.notify_all()
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True, name=self.name)
                self._watcher.start()
        return futures

    def _watch(self) -> None:
        """看着的线程死了，等着的就永远等下去：让它们都失败，原因写明。"""
        try:
            self._watch_all()
        except BaseException as error:
            with self._changed:
                left, self._waiting, self._watcher = list(self._waiting.values()), {}, None
            for future in left:
                if not future.done() and future.set_running_or_notify_cancel():
                    future.set_exception(error)
            raise

    def _watch_all(self) -> None:
        """结束了的交出结果：先看结果的文件，没有的问作业是不是已经结束。"""
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                waiting = list(self._waiting.values())
            settled = [future for future in waiting if future.done() or self._settle(future)]
            if not settled and pause_s >= MOST_PAUSE_S:
                settled = self._without_result(waiting)
            with self._changed:
                for future in settled:
                    self._waiting.pop(future.number, None)
                pause_s = FIRST_PAUSE_S if settled else min(pause_s * 1.5, MOST_PAUSE_S)
                if not settled:
                    self._changed.wait(pause_s)

    def _settle(self, future: JobFuture[Any]) -> bool:
        try:
            data = (self._folder / f"{future.number}.result").read_bytes()
        except FileNotFoundError:
            return False
        if not future.set_running_or_notify_cancel():
            return True
        try:
            future.set_result(read_result(data))
        except BaseException as error:
            future.set_exception(error)
        return True

    def _without_result(self, waiting: list[JobFuture[Any]]) -> list[JobFuture[Any]]:
        """作业结束了而没有结果的：被取消、超时、节点坏了。"""
        jobs = sorted({future.job_id.partition("_")[0] for future in waiting})
        ended: dict[str, Any] = {}
        try:
            for first in range(0, len(jobs), 200):
                rows = self.client.jobs(job_id=jobs[first : first + 200], fields=_FIELDS)
                for row in rows:
                    label = row.job_id if row.array_task_id is None else f"{row.array_job_id}_{row.array_task_id}"
                    ended[label] = row
        except ClientError:
            # 服务器暂时不在：下一遍再问。线程不能死，死了就没有人交结果。
            return []
        settled = []
        for future in waiting:
            last = ended.get(future.job_id)
            if last is None or last.state not in TERMINAL_STATES:
                continue
            # 问的时候才写下的也算。
            if not self._settle(future) and future.set_running_or_notify_cancel():
                future.set_exception(JobFailed(future.job_id, last.state, last.error_msg or ""))
            settled.append(future)
        return settled


_FIELDS = "array_job_id,array_task_id,state,error_msg"


def _each(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*words) for words in chunk]


def _settled(future: Future[Any]) -> None:
    try:
        future.exception()
    except BaseException:  # 取消了的：也算完
        return
