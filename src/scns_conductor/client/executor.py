"""ConductorExecutor：标准库 concurrent.futures 的接口，每个调用是一个作业。

要 pip install 'scns-conductor[executor]'。
"""

import contextlib
import json
import os
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from scns_conductor.client.call_carrier import ApiCarrier, Calls, Carrier, FolderCarrier, boxed
from scns_conductor.client.conductor import Client
from scns_conductor.client.job_future import JobFailed, JobFuture, fail, given, settle
from scns_conductor.client.job_states import TERMINAL_STATES
from scns_conductor.client.problem import ClientError, Problem, Unreachable
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.language import told
from scns_conductor.remote_call import without_frames

P = ParamSpec("P")
T = TypeVar("T")
OnInterrupt = Literal["ask", "cancel", "leave"]
# 多久看一遍结束了没有（秒），从密到疏。
FIRST_PAUSE_S = 0.02
MOST_PAUSE_S = 1.0
# 结果一直在来的时候，多久问一遍没有结果就结束了的（秒）。
MOST_ASK_S = 5.0
# 作业说做完了而结果还看不到：网络文件系统慢、节点暂时不答，再等这么久（秒）。
LATE_RESULT_S = 60.0
# 一次问这么多个作业。
ASK_MOST = 200
_FIELDS = "array_job_id,array_task_id,state,error_msg,exit_status"


class ConductorExecutor(Executor):
    """每个调用是一个作业，map 是一个作业数组。

    folder 是节点也看得到的目录，函数、参数与结果经它；不给就只经 API：调用写在作业的脚本里，结果在它输出的末尾。
    name 是这一批的名字：attach(name) 找回在跑的与做完的，驱动程序死了也不丢、不重。
    resources 是作业的要求（同 POST /jobs/submit 的 job），submit 与 map 可以另给。python 是节点上的解释器。
    most_bytes 是一个结果、一个任务的参数的上限（字节），缺省经目录 64 MiB、经 API 8 MiB。
    on_interrupt 是 with 里按了 Ctrl-C 怎么办：ask 在终端上问（不是终端就同 leave）、cancel 都取消、leave 让它们照常跑。
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        client: Client | None = None,
        resources: Mapping[str, Any] | None = None,
        python: str = sys.executable,
        most_bytes: int | None = None,
        on_interrupt: OnInterrupt = "ask",
    ) -> None:
        self.name = name or f"executor-{uuid.uuid4().hex[:12]}"
        self.client = client or Client(patience_s=300, reconnect_s=300)
        self._on_interrupt = on_interrupt
        self._carrier: Carrier = (
            ApiCarrier(python) if folder is None else FolderCarrier(Path(folder).absolute() / self.name, python)
        )
        self._most_bytes = most_bytes or self._carrier.most_bytes
        self._resources = dict(resources or {})
        self._changed = threading.Condition()
        self._waiting: dict[str, JobFuture[Any]] = {}
        # 送出去了、还没有得到回答的：断了、按了 Ctrl-C 的留在这里。
        self._in_doubt: dict[str, Mapping[str, Any]] = {}
        self._ended_at: dict[str, float] = {}
        self._closed = self._warned = False
        self._watcher: threading.Thread | None = None

    @property
    def folder(self) -> Path | None:
        """这一批的目录；只经 API 的没有。"""
        return self._carrier.folder

    @classmethod
    def attach(
        cls, name: str, folder: str | os.PathLike[str] | None = None, **options: Any
    ) -> "tuple[ConductorExecutor, dict[str, JobFuture[Any]]]":
        """找回这个名字的：(执行器，调用的号 -> Future)，先后为序；目录不给就用提交时的。一个也没有抛 LookupError。

        记下了而没有来得及提交的用原来的幂等键提交，不会有两个作业。
        """
        client = options.pop("client", None) or Client(patience_s=300, reconnect_s=300)
        marks: dict[str, tuple[str, dict[str, Any]]] = {}
        user = user_name_of(client)
        for job in client.jobs(name=name, user=user, fields="array_job_id,extra", sort="job_id"):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                mark = json.loads(job.extra or "")["scns_executor"]
                marks.setdefault(mark["call"], (job.array_job_id or job.job_id, mark))
        for _, mark in marks.values():
            if folder is None and mark["folder"] is not None:
                folder = Path(mark["folder"]).parent
        executor = cls(folder, name=name, client=client, **options)
        found: dict[str, JobFuture[Any]] = {}
        for number, (job_id, mark) in marks.items():
            found.update((each.number, each) for each in executor._track(number, job_id, mark["size"]))
        if isinstance(executor._carrier, FolderCarrier):
            for number, request in executor._carrier.recorded():
                if number not in marks:
                    found.update((each.number, each) for each in executor._recovered(number, request))
        if not found:
            raise LookupError(f"没有叫 {name} 的调用")
        return executor, found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self.shutdown()
            return
        left = sum(not future.done() for future in list(self._waiting.values()))
        left += len(self._in_doubt)
        cancels = bool(left) and self._interrupted(left)
        self.shutdown(wait=False, cancel_futures=cancels)
        if left and not cancels:
            print(told(f"{left} 个调用照常跑着；ConductorExecutor.attach({self.name!r}) 找回"), file=sys.stderr)

    def submit(self, fn: Callable[P, T], /, *args: Any, **kwargs: Any) -> "JobFuture[T]":
        """提交一个调用；resources= 是这一个的要求，不传给函数。装不了箱、太大的当场抛 RemoteFailure。

        参数里的 JobFuture 到了节点上才换成它的结果：作业依赖它的作业，它失败了这个也不跑。
        """
        wanted = self._wanted(kwargs.pop("resources", None))
        calls = boxed(fn, [(args, kwargs)], each=False, most_bytes=self._most_bytes, waits_for=JobFuture)
        futures: list[JobFuture[T]] = self._submitted(calls, wanted, None)
        return futures[0]

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        resources: Mapping[str, Any] | None = None,
    ) -> Iterator[T]:
        """全部调用是一个作业数组，每个任务做 chunksize 个；结果的次序同参数。timeout 是秒。"""
        words = list(zip(*iterables, strict=False))
        if not words:
            return iter(())
        wanted = self._wanted(resources)
        chunks = [words[first : first + chunksize] for first in range(0, len(words), chunksize)]
        calls = boxed(fn, chunks, each=True, most_bytes=self._most_bytes, waits_for=JobFuture)
        futures: list[JobFuture[list[T]]] = self._submitted(
            calls, {**wanted, "array": f"0-{len(chunks) - 1}"}, len(chunks)
        )
        deadline = None if timeout is None else time.monotonic() + timeout
        return (
            result
            for future in futures
            for result in future.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """不再收新的；wait 等全部结束，cancel_futures 取消没有结束的。不等也不取消的作业照常跑，之后 attach 得到。"""
        with self._changed:
            self._closed = True
            left = list(self._waiting.values())
            self._changed.notify_all()
        if cancel_futures:
            jobs = {future.job_id.partition("_")[0] for future in left}
            # 不知道收没收的：同一个键再送，得到它的作业号，才取消得了。
            jobs |= {self._sent(number, request) for number, request in list(self._in_doubt.items())}
            if jobs:
                # 一个请求取消全部，不是一个作业一个。
                self.client.control("cancel", sorted(jobs))
            for future in left:
                future.drop()
        if wait:
            for future in left:
                _settled(future)

    # ---- 提交 ----

    def _wanted(self, resources: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._closed:
            raise RuntimeError("执行器已经关了，不能再提交")
        here = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        given = {**self._resources, **(resources or {})}
        place = {} if self.folder is None else {"current_working_directory": str(self.folder)}
        return {"name": self.name, **place, **given, "environment": {**here, **given.get("environment", {})}}

    def _submitted(self, calls: Calls, wanted: dict[str, Any], size: int | None) -> list[JobFuture[Any]]:
        number = uuid.uuid4().hex
        if calls.needs:
            needed = ":".join(["afterok", *sorted({need.job_id for need in calls.needs})])
            wanted["dependency"] = f"{needed},{wanted['dependency']}" if wanted.get("dependency") else needed
            # 依赖的失败了就永远等不到：结束它，而不是一直排着。
            wanted["kill_on_invalid_dependency"] = True
        mark = {"call": number, "size": size, "folder": None if self.folder is None else str(self.folder)}
        wanted["name"], wanted["extra"] = self.name, json.dumps({"scns_executor": mark})
        request = {"job": wanted, "size": size, "script": self._carrier.script(number, calls)}
        folder = self._carrier if isinstance(self._carrier, FolderCarrier) else None
        if folder is not None:
            folder.record(number, request)
        try:
            job_id = self._sent(number, request)
        except Problem:
            # 说了不收的就是没有；断了的不知道收没收，记录留着，attach 用同一个键再送。
            if folder is not None:
                folder.forget(number)
            raise
        return self._track(number, job_id, size, calls.needs)

    def _sent(self, number: str, request: Mapping[str, Any]) -> str:
        self._in_doubt[number] = request
        try:
            return self.client.submit(request["job"], request["script"], idempotency_key=f"{self.name}-{number}")
        except Problem:
            self._in_doubt.pop(number, None)
            raise

    def _recovered(self, number: str, request: Mapping[str, Any]) -> list[JobFuture[Any]]:
        """记下了而服务器上没有：作业早已清理、结果都在的不必再做；否则提交。"""
        size = request["size"]
        arrived = self._carrier.arrived()
        assert arrived is not None
        names = [number] if size is None else [f"{number}-{n}" for n in range(size)]
        done = all(arrived(name) is not None for name in names)
        return self._track(number, "0" if done else self._sent(number, request), size)

    def _track(self, number: str, job_id: str, size: int | None, needs: tuple[Any, ...] = ()) -> list[JobFuture[Any]]:
        names = [(number, job_id)] if size is None else [(f"{number}-{n}", f"{job_id}_{n}") for n in range(size)]
        futures: list[JobFuture[Any]] = [JobFuture(self, each, task, needs) for each, task in names]
        with self._changed:
            self._waiting.update((future.number, future) for future in futures)
            self._in_doubt.pop(number, None)
            self._changed.notify_all()
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True, name=self.name)
                self._watcher.start()
        return futures

    def _interrupted(self, left: int) -> bool:
        """按了 Ctrl-C：取消没有结束的吗。"""
        if self._on_interrupt != "ask" or not sys.stdin.isatty():
            return self._on_interrupt == "cancel"
        try:
            answer = input(told(f"还有 {left} 个调用没有结束。取消它们吗？[y/N] "))
        except (EOFError, KeyboardInterrupt):
            return False
        return answer.strip().lower() in ("y", "yes", "是")

    # ---- 看着 ----

    def _watch(self) -> None:
        """看着的线程死了，等着的就永远等下去：让它们都失败，原因写明。"""
        try:
            self._watch_all()
        except BaseException as error:
            with self._changed:
                left, self._waiting, self._watcher = list(self._waiting.values()), {}, None
            for future in left:
                if not future.done() and future.begins():
                    future.set_exception(error)
            raise

    def _watch_all(self) -> None:
        """结束了的交出结果：先看目录里已经有的，没有的问作业是不是已经结束。"""
        pause_s, asked_at = FIRST_PAUSE_S, time.monotonic()
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                waiting = list(self._waiting.values())
            began = time.monotonic()
            arrived = self._carrier.arrived()
            settled = [future for future in waiting if future.done() or given(future, arrived)]
            if arrived is None or began - asked_at > (MOST_ASK_S if settled else MOST_PAUSE_S):
                settled += self._of_ended([future for future in waiting if not future.done()])
                asked_at = time.monotonic()
            took_s = time.monotonic() - began
            with self._changed:
                for future in settled:
                    self._waiting.pop(future.number, None)
                pause_s = FIRST_PAUSE_S if settled else min(pause_s * 1.5, MOST_PAUSE_S)
                if not settled and self._changed.wait(pause_s):
                    # 来了新的。
                    pause_s = FIRST_PAUSE_S
            # 看一遍要多久就歇多久：很多的时候不至于一直在问。
            time.sleep(min(took_s, MOST_PAUSE_S))

    def _of_ended(self, waiting: list[JobFuture[Any]]) -> list[JobFuture[Any]]:
        """作业已经结束的：取它的结果；没有结果的失败。服务器暂时不在就下一遍再问：线程不能死，死了没有人交结果。"""
        jobs = sorted({future.job_id.partition("_")[0] for future in waiting})
        found: dict[str, Any] = {}
        live: set[str] = set()
        try:
            for first in range(0, len(jobs), ASK_MOST):
                for row in self.client.jobs(job_id=jobs[first : first + ASK_MOST], fields=_FIELDS):
                    label = row.job_id if row.array_task_id is None else f"{row.array_job_id}_{row.array_task_id}"
                    # 数组里没有启动的任务是一行，取消了的一段又是一行：行的号在这里都当作数组的。
                    if row.array_task_id is None and row.array_job_id is not None:
                        label = row.array_job_id
                    if row.state not in TERMINAL_STATES:
                        live.add(label)
                    elif label not in live:
                        found[label] = row
        except ClientError as error:
            self._warn(error)
            return []
        self._warned = False
        return [future for future in waiting if self._over(future, found, live)]

    def _over(self, future: JobFuture[Any], found: Mapping[str, Any], live: set[str]) -> bool:
        """已经结束，交出了结果或失败。"""
        array = future.job_id.partition("_")[0]
        if future.job_id in found:
            return self._fetched(future, found[future.job_id])
        if future.job_id in live or array in live:
            return False
        if array in found:
            # 没有启动就取消了的任务，没有自己的行。
            row = found[array]
            fail(future, JobFailed(future.job_id, row.state, row.error_msg or ""))
            return True
        since = self._ended_at.setdefault(future.number, time.monotonic())
        if time.monotonic() - since < LATE_RESULT_S:
            return False
        fail(future, JobFailed(future.job_id, "UNKNOWN", "服务器上已经没有这个作业"))
        return True

    def _fetched(self, future: JobFuture[Any], row: Any) -> bool:
        """取到了，或知道没有；假是下一遍再来。"""
        try:
            data = self._carrier.result(self.client, future.number, future.job_id)
            if data is not None:
                settle(future, data)
                return True
            since = self._ended_at.setdefault(future.number, time.monotonic())
            if row.state == "COMPLETED" and time.monotonic() - since < LATE_RESULT_S:
                return False
            said = without_frames(self.client.output(future.job_id, tail=2000)).decode(errors="replace").strip()
        except ClientError as error:
            if _passes(error):
                self._warn(error)
                return False
            fail(future, error)
        else:
            reason = row.error_msg or ("没有留下结果" if row.state == "COMPLETED" else "")
            fail(future, JobFailed(future.job_id, row.state, reason, said))
        return True

    def _warn(self, error: ClientError) -> None:
        """问不到而自己不会好的（令牌过期）：说一次，接着等。"""
        if not self._warned and not (isinstance(error, Unreachable) or _passes(error, but=(401,))):
            self._warned = True
            warnings.warn(told(f"问不到作业的状态，接着等：{error}"), RuntimeWarning, stacklevel=2)


def _passes(error: ClientError, but: tuple[int, ...] = ()) -> bool:
    """过一会儿就好的：断了、忙、令牌过期（续了就好）。"""
    if isinstance(error, Unreachable):
        return True
    return isinstance(error, Problem) and error.status in {401, 429, 502, 503, 504}.difference(but)


def _settled(future: Future[Any]) -> None:
    with contextlib.suppress(BaseException):  # 取消了的：也算完
        future.exception()
