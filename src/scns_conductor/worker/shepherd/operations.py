"""牧守进程的操作：一个请求一个方法，只动内存与进程，套接字归主循环。"""

from __future__ import annotations

import base64
import os
import time

from scns_conductor.worker.host.user_files import read_range
from scns_conductor.worker.wire.frames import PROTOCOL_VERSION
from scns_conductor.worker.wire.launch_spec import LaunchSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scns_conductor.worker.shepherd.containment import Containment
    from scns_conductor.worker.shepherd.journal import Journal
    from scns_conductor.worker.shepherd.keeper import JobKeeper
    from scns_conductor.worker.shepherd.link import Link
    from scns_conductor.worker.shepherd.task import JobGroup

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
        self.launches: list[tuple[Link, int, list[LaunchSpec], list[dict[str, Any]]]] = []
        self._journal = journal
        self._keeper = keeper
        self._containment = containment
        self._node = node
        self._boot_id = boot_id
        self._started_at = time.time()
        self._table: dict[str, Callable[[Link, dict[str, Any]], dict[str, Any] | None]] = {
            "hello": self._hello,
            "launch": self._launch,
            "signal": self._signal,
            "kill": self._kill,
            "disown": self._disown,
            "suspend": self._suspend,
            "resume": self._resume,
            "set_time_limit": self._set_time_limit,
            "ack": self._ack,
            "stats": self._stats,
            "read_log": self._read_log,
            "shutdown": self._shutdown,
        }

    def answer(self, link: Link, message: dict[str, Any]) -> dict[str, Any] | None:
        """执行一个请求，返回回答；稍后才答的（启动）返回 None。不认识、不合法的如实拒绝。"""
        if message.get("v") != PROTOCOL_VERSION:
            text = f"协议版本 {message.get('v')!r} 不认识，本牧守进程只懂 {PROTOCOL_VERSION}"
            return {"ok": False, "code": "unknown_version", "error": text}
        operation = self._table.get(str(message.get("op")))
        if operation is None:
            return {"ok": False, "code": "unknown_operation", "error": f"不认识的操作 {message.get('op')!r}"}
        try:
            return operation(link, message)
        except OperationError as error:
            return {"ok": False, "code": error.code, "error": str(error)}
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "code": "bad_request", "error": f"请求不合法：{error!r}"}

    def launch_some(self) -> None:
        """一轮只启动一部分，免得一大批启动耽误回收与时限。"""
        if not self.launches:
            return
        link, request_id, specs, answers = self.launches[0]
        answers.extend(self._keeper.launch(specs[:LAUNCHES_PER_TURN]))
        del specs[:LAUNCHES_PER_TURN]
        if not specs:
            self.launches.pop(0)
            link.send({"id": request_id, "ok": True, "launched": answers})

    def _hello(self, link: Link, message: dict[str, Any]) -> dict[str, Any]:
        if message.get("attach"):
            # 还没推的新结束，这一轮末尾会推给所有连接；这里只补以前的。
            fresh = {end["id"] for end in self._keeper.new_ends}
            link.attached = True
            link.pending.clear()
            link.pending.extend(end for end_id, end in self._journal.ends.items() if end_id not in fresh)
        return {
            "ok": True,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "boot_id": self._boot_id,
            "node": self._node,
            # 认得 launch_id；旧版没有这一项。
            "launch_ids": True,
            "running": [
                {
                    "key": task.key,
                    "pid": task.pid,
                    "started_at": task.record.get("at"),
                    "suspended": group.suspended_boot is not None,
                    "cause": group.cause,
                    "foreign": group.foreign,
                    "time_limit_s": task.record.get("time_limit_s"),
                }
                for group in self._keeper.groups.values()
                for task in group.tasks.values()
                if task.key in self._journal.running
            ],
            "unacknowledged": [end["key"] for end in self._journal.ends.values()],
            "capabilities": self._containment.capabilities(),
            "corrupt_lines": self._journal.corrupt_lines,
        }

    def _launch(self, link: Link, message: dict[str, Any]) -> None:
        if self.stopping:
            raise OperationError("stopping", "牧守进程正在停止，不再启动作业")
        specs: list[LaunchSpec] = []
        answers: list[dict[str, Any]] = []
        for wire in message["specs"]:
            try:
                specs.append(LaunchSpec.from_wire(wire))
            except ValueError as error:
                # 只拒收这一份，同一批里别的照常启动。
                known = wire if isinstance(wire, dict) else {}
                key = ".".join(
                    str(known[name])
                    for name in ("job_id", "attempt", "step", "launch_id")
                    if known.get(name) is not None
                )
                answers.append({"key": key, "state": "refused", "error": str(error)})
        self.launches.append((link, message["id"], specs, answers))

    def _groups(self, message: dict[str, Any]) -> list[JobGroup]:
        """jobs 是 [作业号, 尝试] 或 [作业号, 尝试, 哪一次启动]；尝试为 null 表示任何一次。不在这里的略过。"""
        groups = self._keeper.groups
        exact = {tuple(each) for each in message["jobs"] if len(each) == 3}
        found = [groups[identity] for identity in exact if identity in groups]
        loose = {(job_id, attempt) for job_id, attempt in (each for each in message["jobs"] if len(each) != 3)}
        if loose:
            for group in groups.values():
                if not group.foreign and not loose.isdisjoint({(group.job_id, group.attempt), (group.job_id, None)}):
                    found.append(group)
        return found

    def _signal(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        number, target = int(message["signal"]), str(message.get("target", "all"))
        return {
            "ok": True,
            "sent": sum(self._keeper.signal(group, number, target) for group in self._groups(message)),
        }

    def _kill(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        groups = self._groups(message)
        step = message.get("step")
        for group in groups:
            if step is None:
                self._keeper.stop(group, message.get("cause", "killed"), message.get("message"), message.get("grace_s"))
            elif step in group.tasks:
                self._keeper.stop_step(group.tasks[step], message.get("grace_s"))
        return {"ok": True, "found": [[group.job_id, group.attempt] for group in groups]}

    def _disown(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        groups = self._groups(message)
        for group in groups:
            self._keeper.disown(group)
        return {"ok": True, "found": [[group.job_id, group.attempt] for group in groups]}

    def _suspend(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        groups = self._groups(message)
        for group in groups:
            self._keeper.suspend(group)
        return {"ok": True, "found": [[group.job_id, group.attempt] for group in groups]}

    def _resume(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        groups = self._groups(message)
        for group in groups:
            self._keeper.resume(group)
        return {"ok": True, "found": [[group.job_id, group.attempt] for group in groups]}

    def _set_time_limit(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        limit = message["time_limit_s"]
        for group in self._groups(message):
            self._keeper.set_time_limit(group, None if limit is None else float(limit))
        return {"ok": True}

    def _ack(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        self._journal.ack([int(end_id) for end_id in message["ids"]])
        return {"ok": True}

    def _stats(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "ok": True,
            "jobs": [
                {"job_id": group.job_id, "attempt": group.attempt, "processes": processes, "usage": usage.to_wire()}
                for group, (usage, processes) in self._keeper.sampler.sample().items()
                if not group.foreign
            ],
            "steps": [
                {
                    "job_id": task.group.job_id,
                    "attempt": task.group.attempt,
                    "step": task.step,
                    # 内存是到此刻为止的峰值。
                    "usage": {**usage.to_wire(), "max_rss_kb": task.sampled.max_rss_kb},
                }
                for task, usage in self._keeper.sampler.sample_steps().items()
                if not task.group.foreign
            ],
        }

    def _read_log(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        length = min(int(message["length"]), MAX_READ_BYTES)
        try:
            data, total = read_range(
                message["path"],
                int(message["offset"]),
                length,
                uid=message.get("uid"),
                gid=message.get("gid"),
                groups=message.get("groups"),
            )
        except OSError as error:
            raise OperationError("unreadable", f"读不了 {message['path']}：{error.strerror}") from error
        return {"ok": True, "data": base64.b64encode(data).decode(), "total": total}

    def _shutdown(self, _: Link, message: dict[str, Any]) -> dict[str, Any]:
        self.stopping = True
        for group in list(self._keeper.groups.values()):
            self._keeper.stop(group, "shutdown", "节点停止服务", message.get("grace_s"))
        return {"ok": True, "running": len(self._keeper.groups)}
