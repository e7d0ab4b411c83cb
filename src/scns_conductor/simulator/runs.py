"""各策略的重放：一个策略一个进程，并排地跑；只有一个时就在本进程里。"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue

from scns_conductor.core.errors import ConductorError
from scns_conductor.simulator.live_replay import actual_starts, replay_live
from scns_conductor.simulator.metrics import measure
from scns_conductor.simulator.policy_choice import PolicyChoice
from scns_conductor.simulator.replay import replay
from scns_conductor.simulator.report import ACTUAL, PolicyResult
from scns_conductor.simulator.session import Scene

# (策略, 新完成的事件数)；每个策略共 2 × 作业数。
Progress = Callable[[str, int], None]
# 子进程里攒够这么多个事件才报一次。
REPORT_EVERY = 200
LISTEN_S = 0.1


class ReplayDied(ConductorError):
    """重放的进程被杀（多半是内存不够）。"""

    def __init__(self) -> None:
        super().__init__(
            detail="重放的进程被杀了（多半是内存不够）；用 --parallel 1 一个一个地跑，或用 --limit 少跑一些作业",
            code="replay_died",
            status=500,
        )


def simulate(
    scene: Scene, choices: Sequence[PolicyChoice], progress: Progress | None = None, parallel: int = 1
) -> list[PolicyResult]:
    """重放各策略，结果按 choices 的次序；同时至多 parallel 个进程。进程被杀时抛 ReplayDied。"""
    workers = min(parallel, len(choices))
    if workers <= 1:
        return [_one(scene, choice, progress) for choice in choices]
    # fork：子进程直接看得到踪迹，不必再传一遍。
    context = multiprocessing.get_context("fork")
    told: SimpleQueue[tuple[str, int]] | None = None if progress is None else context.SimpleQueue()
    try:
        with ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(scene, told)) as pool:
            running: list[Future[PolicyResult]] = [pool.submit(_in_child, choice) for choice in choices]
            left = set(running)
            while left:
                _, left = wait(left, timeout=LISTEN_S if told is not None else None)
                while told is not None and progress is not None and not told.empty():
                    progress(*told.get())
            return [future.result() for future in running]
    except BrokenProcessPool as error:
        raise ReplayDied from error


def _one(scene: Scene, choice: PolicyChoice, progress: Progress | None) -> PolicyResult:
    began = time.perf_counter()
    jobs = scene.workload.jobs
    advance = None if progress is None else (lambda count: progress(choice.label, count))
    if scene.live is not None:
        found = replay_live(scene.live, jobs, choice, scene.added, advance)
    else:
        found = replay(jobs, scene.machine, choice, advance)
    ends = {place: spans[-1][1] for place, spans in found.walked.items()}
    return PolicyResult(
        policy=choice.label,
        metrics=measure(jobs, found.starts, scene.machine.cpus, ends, found.ran_s),
        starts=found.starts,
        never_started=found.never_started,
        passes=found.passes,
        power=found.power,
        elapsed_s=time.perf_counter() - began,
        ends=ends,
        ran_s=found.ran_s,
        walked=found.walked,
    )


def actual(scene: Scene) -> PolicyResult:
    """实际的那一行：记录里真的开始的时刻。"""
    jobs = scene.workload.jobs
    starts = actual_starts(jobs)
    ends = {
        place: start + job.run_s + job.recorded_stopped_s
        for place, (job, start) in enumerate(zip(jobs, starts, strict=True))
        if start is not None and job.recorded_stopped_s
    }
    return PolicyResult(ACTUAL, measure(jobs, starts, scene.machine.cpus, ends), starts, {}, 0, 0.0, ends=ends)


class _Child:
    """子进程里的：场面，与报进度的队列。"""

    scene: Scene
    told: "SimpleQueue[tuple[str, int]] | None"


def _prepare(scene: Scene, told: "SimpleQueue[tuple[str, int]] | None") -> None:
    # Ctrl-C 时安静地结束，话由父进程说。
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _Child.scene, _Child.told = scene, told


def _in_child(choice: PolicyChoice) -> PolicyResult:
    told, unsaid = _Child.told, 0
    if told is None:
        return _one(_Child.scene, choice, None)

    def tell(label: str, count: int) -> None:
        nonlocal unsaid
        unsaid += count
        if unsaid >= REPORT_EVERY:
            told.put((label, unsaid))
            unsaid = 0

    result = _one(_Child.scene, choice, tell)
    told.put((choice.label, unsaid))
    return result
