"""牧守进程的操作：一个请求一个方法，只动内存与进程，套接字归主循环。请求照它自己的版本读，回答照同一版写。"""

from __future__ import annotations

import base64
import os
import time

from scns_conductor import __version__
from scns_conductor.worker.host.user_files import read_range
from scns_conductor.worker.wire import shepherd_messages as messages
from scns_conductor.worker.wire.launch_spec import LaunchSpec
from scns_conductor.worker.wire.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scns_conductor.worker.shepherd.containment import Containment
    from scns_conductor.worker.shepherd.journal import Journal
    from scns_conductor.worker.shepherd.keeper import JobKeeper
    from scns_conductor.worker.shepherd.link import Link
    from scns_conductor.worker.shepherd.task import JobGroup
    from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer, Named

LAUNCHES_PER_TURN = 32
MAX_READ_BYTES = 4 * 1024**2


class OperationError(Exception):
    """请求不能执行；code 是稳定的英文码。"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Operations:
    """launches 是排着队的启动：（连接，请求号，还没启动的，已有的回答）。"""

    def __init__(self, journal: Journal, keeper: JobKeeper, containment: Containment, node: str, boot_id: str) -> None:
        self.stopping = False
        self.launches: list[tuple[Link, int, list[LaunchSpec], list[LaunchAnswer]]] = []
        self._journal = journal
        self._keeper = keeper
        self._containment = containment
        self._node = node
        self._boot_id = boot_id
        self._started_unix_s = time.time()
        self._table: dict[str, tuple[type[Record], Callable[[Any], Record]]] = {
            messages.Signal.op: (messages.Signal, self._signal),
            messages.Kill.op: (messages.Kill, self._kill),
            messages.Disown.op: (messages.Disown, self._disown),
            messages.Suspend.op: (messages.Suspend, self._suspend),
            messages.Resume.op: (messages.Resume, self._resume),
            messages.SetTimeLimit.op: (messages.SetTimeLimit, self._set_time_limit),
            messages.SetStepTimeLimit.op: (messages.SetStepTimeLimit, self._set_step_time_limit),
            messages.Ack.op: (messages.Ack, self._ack),
            messages.Stats.op: (messages.Stats, self._stats),
            messages.ReadLog.op: (messages.ReadLog, self._read_log),
            messages.Shutdown.op: (messages.Shutdown, self._shutdown),
        }

    def answer(self, link: Link, message: dict[str, object]) -> dict[str, object] | None:
        """执行一个请求，返回回答；稍后才答的（启动）返回 None。不认识、不合法的如实拒绝。"""
        try:
            self._settle_version(link, message)
            op = message.get("op")
            if op == messages.Launch.op:
                asked = messages.Asked.from_wire(message, link.version)
                self._launch(link, asked.id, messages.Launch.from_wire(message, link.version))
                return None
            if op == messages.Hello.op:
                done: Record = self._hello(link, messages.Hello.from_wire(message, link.version))
            elif isinstance(op, str) and op in self._table:
                kind, operation = self._table[op]
                done = operation(kind.from_wire(message, link.version))
            else:
                raise OperationError("unknown_operation", f"不认识的操作 {op!r}")
        except OperationError as error:
            return {"ok": False, "code": error.code, "error": str(error), "versions": list(messages.SUPPORTED)}
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "code": "bad_request", "error": f"请求不合法：{error}"}
        return {"ok": True, **done.to_wire(link.version)}

    def _settle_version(self, link: Link, message: dict[str, object]) -> None:
        """以后与它说哪一版：问候里带着它懂得的，挑两边都懂的最新一版；别的请求就照它自己写的。"""
        offered = message.get("versions") if message.get("op") == messages.Hello.op else None
        version = messages.common_version(offered if isinstance(offered, list) else [message.get("v", 0)])
        if version is None:
            text = f"协议版本 {offered or message.get('v')!r} 不认识，本牧守进程懂得 {list(messages.SUPPORTED)}"
            raise OperationError("unknown_version", text)
        link.version = version

    def launch_some(self) -> None:
        """一轮只启动一部分，免得一大批启动耽误回收与时限。"""
        if not self.launches:
            return
        link, request_id, specs, answers = self.launches[0]
        answers.extend(self._keeper.launch(specs[:LAUNCHES_PER_TURN]))
        del specs[:LAUNCHES_PER_TURN]
        if not specs:
            self.launches.pop(0)
            done = messages.Launched(launched=answers)
            link.send({"id": request_id, "ok": True, **done.to_wire(link.version)})

    def _hello(self, link: Link, request: messages.Hello) -> messages.HelloAnswer:
        if request.attach:
            # 还没推的新结束，这一轮末尾会推给所有连接；这里只补以前的。
            fresh = {end.id for end in self._keeper.new_ends}
            link.attached = True
            link.pending.clear()
            link.pending.extend(end for end_id, end in self._journal.ends.items() if end_id not in fresh)
        return messages.HelloAnswer(
            pid=os.getpid(),
            started_unix_s=self._started_unix_s,
            boot_id=self._boot_id,
            node=self._node,
            release=__version__,
            launch_ids=True,
            running=[
                messages.RunningStep(
                    key=task.key,
                    pid=task.pid,
                    started_unix_s=task.record.started_unix_s,
                    suspended=group.suspended_boot_s is not None,
                    cause=group.cause,
                    foreign=group.foreign,
                    time_limit_s=task.record.time_limit_s,
                )
                for group in self._keeper.groups.values()
                for task in group.tasks.values()
                if task.key in self._journal.running
            ],
            unacknowledged=[end.key for end in self._journal.ends.values()],
            capabilities=self._containment.capabilities(),
            corrupt_lines=self._journal.corrupt_lines,
        )

    def _launch(self, link: Link, request_id: int, request: messages.Launch) -> None:
        if self.stopping:
            raise OperationError("stopping", "牧守进程正在停止，不再启动作业")
        specs: list[LaunchSpec] = []
        answers: list[LaunchAnswer] = []
        for wire in request.specs:
            try:
                specs.append(LaunchSpec.from_wire(wire, link.version))
            except ValueError as error:
                # 只拒收这一份，同一批里别的照常启动。
                known = wire if isinstance(wire, dict) else {}
                names = ("job_id", "attempt", "step", "launch_id")
                key = ".".join(str(known[name]) for name in names if known.get(name) is not None)
                answers.append(messages.LaunchAnswer(key=key, state="refused", error=str(error)))
        self.launches.append((link, request_id, specs, answers))

    def _groups(self, jobs: list[Named]) -> list[JobGroup]:
        """作业号、尝试、哪一次启动；尝试为 null 表示任何一次，没有第三项的不论哪一次。不在这里的略过。"""
        groups = self._keeper.groups
        exact = {tuple(each) for each in jobs if len(each) == 3}
        found = [groups[identity] for identity in exact if identity in groups]
        loose = {(job_id, attempt) for job_id, attempt in (each for each in jobs if len(each) != 3)}
        if loose:
            for group in groups.values():
                if not group.foreign and not loose.isdisjoint({(group.job_id, group.attempt), (group.job_id, None)}):
                    found.append(group)
        return found

    def _signal(self, request: messages.Signal) -> messages.Sent:
        sent = (
            self._keeper.commands.signal(group, request.signal, request.target) for group in self._groups(request.jobs)
        )
        return messages.Sent(sent=sum(sent))

    def _kill(self, request: messages.Kill) -> messages.Found:
        groups = self._groups(request.jobs)
        for group in groups:
            if request.step is None:
                self._keeper.commands.stop(group, request.cause, request.message, request.grace_s)
            elif request.step in group.tasks:
                self._keeper.commands.stop_step(group.tasks[request.step], request.grace_s)
        return _found(groups)

    def _disown(self, request: messages.Disown) -> messages.Found:
        groups = self._groups(request.jobs)
        for group in groups:
            self._keeper.commands.disown(group)
        return _found(groups)

    def _suspend(self, request: messages.Suspend) -> messages.Found:
        groups = self._groups(request.jobs)
        for group in groups:
            self._keeper.commands.suspend(group)
        return _found(groups)

    def _resume(self, request: messages.Resume) -> messages.Found:
        groups = self._groups(request.jobs)
        for group in groups:
            self._keeper.commands.resume(group)
        return _found(groups)

    def _set_time_limit(self, request: messages.SetTimeLimit) -> messages.Done:
        for group in self._groups(request.jobs):
            self._keeper.deadlines.set_time_limit(group.holder, request.time_limit_s)
        return messages.Done()

    def _set_step_time_limit(self, request: messages.SetStepTimeLimit) -> messages.Done:
        for group in self._groups(request.jobs):
            self._keeper.deadlines.set_time_limit(group.tasks.get(request.step), request.time_limit_s)
        return messages.Done()

    def _ack(self, request: messages.Ack) -> messages.Done:
        self._journal.ack(request.ids)
        return messages.Done()

    def _stats(self, _: messages.Stats) -> messages.Samples:
        sampler = self._keeper.sampler
        return messages.Samples(
            jobs=[
                messages.JobSample(
                    job_id=group.job_id,
                    attempt=group.attempt,
                    processes=processes,
                    usage=usage,
                    started_boot_s=group.record.started_boot_s if group.record is not None else None,
                )
                for group, (usage, processes) in sampler.sample().items()
                if not group.foreign
            ],
            steps=[
                messages.StepSample(
                    job_id=task.group.job_id,
                    attempt=task.group.attempt,
                    step=task.step,
                    usage=usage.replace(max_rss_kb=task.sampled.max_rss_kb),
                )
                for task, usage in sampler.sample_steps().items()
                if not task.group.foreign
            ],
        )

    def _read_log(self, request: messages.ReadLog) -> messages.LogPart:
        length = min(request.length_bytes, MAX_READ_BYTES)
        try:
            data, total, _ = read_range(
                request.path, request.offset_bytes, length, uid=request.uid, gid=request.gid, groups=request.groups
            )
        except OSError as error:
            raise OperationError("unreadable", f"读不了 {request.path}：{error.strerror}") from error
        return messages.LogPart(data=base64.b64encode(data).decode(), total_bytes=total)

    def _shutdown(self, request: messages.Shutdown) -> messages.Leaving:
        self.stopping = True
        for group in list(self._keeper.groups.values()):
            self._keeper.commands.stop(group, "shutdown", "节点停止服务", request.grace_s)
        return messages.Leaving(running=len(self._keeper.groups))


def _found(groups: list[JobGroup]) -> messages.Found:
    return messages.Found(found=[[group.job_id, group.attempt] for group in groups])
