"""python -m scns_conductor.cli.what_if：API 的「假如」（GET /simulate）在这个进程里算，不占 API 的时间与内存。

标准输入的第一行是一个 JSON（见 services/simulations.py），回答是标准输出上的一行行 JSON：{"event": 名字, "data": {…}}。
它用提问者自己的令牌经 API 取作业与节点，所以看不到他看不到的；标准输入关了（API 不在了）就退出。
"""

import contextlib
import json
import os
import resource
import sys
import threading
import time
from typing import Any

from scns_conductor.cli.live_history import read_live
from scns_conductor.client.conductor import JsonClient
from scns_conductor.client.problem import ClientError, Problem
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.hostlist import expand
from scns_conductor.core.replay_words import parse_nodes, parse_span
from scns_conductor.language import told
from scns_conductor.simulator.curves import shared_curves
from scns_conductor.simulator.machine import Machine
from scns_conductor.simulator.policy_choice import parse_policies
from scns_conductor.simulator.report import NOTE_TEXTS, PolicyResult, as_json
from scns_conductor.simulator.runs import actual, simulate
from scns_conductor.simulator.session import Request, Scene, prepare
from scns_conductor.simulator.workload import TraceJob

NICE = 10
POINTS = 240
# 进度至多这么密（秒）。
TELL_EVERY_S = 0.3
MOST_USERS = 50
Outcome = tuple[str, Scene, PolicyResult]


class Refused(Exception):
    """请求里的一项不对。"""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def main() -> None:
    """算一次。"""
    asked = json.loads(sys.stdin.readline())
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (asked["memory_bytes"],) * 2)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        _run(asked)
    except Refused as refused:
        say("refused", field=refused.field, message=told(str(refused)))
    except Problem as problem:
        say("failed", code=problem.code, detail=told(problem.detail))
    except (ClientError, ConductorError) as error:
        say("failed", code=getattr(error, "code", "unreachable"), detail=told(str(error)))
    except MemoryError:
        say("failed", code="simulation_too_large", detail=told("作业太多，内存不够；请把时间取短些"))


def say(event: str, **data: Any) -> None:
    """一行回答。"""
    print(json.dumps({"event": event, "data": data}, ensure_ascii=False), flush=True)


def _leave_with_parent() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.read()
    os._exit(1)


def _changes(asked: dict[str, Any]) -> dict[str, Any]:
    """改了什么；写法 API 看过了。"""
    return {
        "add_nodes": tuple(parse_nodes(text) for text in asked["add_nodes"]),
        "remove_nodes": frozenset(expand(asked["remove_nodes"] or "")),
        "cap_time_limit_s": parse_span(asked["cap_time_limit"]) if asked["cap_time_limit"] else None,
        "load_factor": asked["scale_load"] or 1.0,
        "user_jobs": asked["user_jobs"],
        "user_cpus": asked["user_cpus"],
    }


def _run(asked: dict[str, Any]) -> None:
    changes = _changes(asked)
    say("progress", stage="reading", done=0, total=None)
    with JsonClient(asked["url"], asked["token"]) as client:
        found = read_live(
            client,
            asked["since"],
            asked["most_jobs"],
            lambda count: say("progress", stage="reading", done=count, total=None),
        )
    if not found.trace.records:
        say("failed", code="no_history", detail=told("这段时间里没有结束了的作业；请把时间取长些"))
        return
    before = prepare(Request(source=found.trace, live=found.system))
    try:
        after = prepare(Request(source=found.trace, live=found.system, **changes))
    except ValueError as error:
        raise Refused("remove_nodes", str(error)) from error
    unchanged = changes == _changes({**asked, **_NO_CHANGES})
    outcomes: list[Outcome] = [("actual", before, actual(before))]
    # 没有改动时「现在这样」与「假如」的 live 是同一件事，只重放一次。
    plans = [("before", before, parse_policies("live")[0])]
    choices = parse_policies(asked["policy"])
    plans += [("after", after, each) for each in choices if not (unchanged and each.label == "live")]
    progress = _Progress(2 * sum(len(scene.workload.jobs) for _, scene, _ in plans))
    for when, scene, choice in plans:
        progress.label = choice.label
        outcomes.append((when, scene, simulate(scene, [choice], progress.advance)[0]))
    say("result", **_described(outcomes, found.left_out))


_NO_CHANGES: dict[str, Any] = {
    "add_nodes": [],
    "remove_nodes": None,
    "cap_time_limit": None,
    "scale_load": None,
    "user_jobs": None,
    "user_cpus": None,
}


class _Progress:
    def __init__(self, total: int) -> None:
        self.label = ""
        self._done, self._total, self._told_at = 0, total, 0.0

    def advance(self, _label: str, count: int) -> None:
        """又走过了几个事件。"""
        self._done += count
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            say("progress", stage="replaying", policy=self.label, done=min(self._done, self._total), total=self._total)


def _described(outcomes: list[Outcome], left_out: bool) -> dict[str, Any]:
    curves_of: list[tuple[list[TraceJob], PolicyResult]] = [
        (scene.workload.jobs, found) for _, scene, found in outcomes
    ]
    since, until, curves = shared_curves(curves_of, POINTS)
    notes = {code: count for _, scene, _ in outcomes for code, count in scene.workload.notes.items()}
    # API 的次序本来就不必是提交的次序。
    notes.pop("reordered_by_submit", None)
    return {
        "since": since,
        "until": until,
        "left_out": left_out,
        "notes": [
            {"code": code, "text": told(NOTE_TEXTS.get(code, code)), "jobs": count} for code, count in notes.items()
        ],
        "runs": [
            {
                "when": when,
                "policy": found.policy,
                "machine": _machine(scene.machine),
                "metrics": _metrics(scene, found),
                "curves": lines,
            }
            for (when, scene, found), lines in zip(outcomes, curves, strict=True)
        ],
    }


def _machine(machine: Machine) -> dict[str, int]:
    return {"nodes": machine.nodes, "cpus": machine.cpus, "gpus": machine.gpus}


def _metrics(scene: Scene, found: PolicyResult) -> dict[str, Any]:
    """命令的 --json 里的那些；用户只留用得最多的，启动不了的只数个数。"""
    values: dict[str, Any] = as_json(scene.trace, scene.workload, scene.machine, [found])["policies"][found.policy]
    values["users"] = dict(list(values["users"].items())[:MOST_USERS])
    values["never_started"] = len(values["never_started"])
    return values


if __name__ == "__main__":
    main()
