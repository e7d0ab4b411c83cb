"""重放时的运行时间预测：只用那时已经做完的作业；同一个用户、同样的 CPU 数与时限的算像。"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from scns_conductor.scheduling.queue import Queue
from scns_conductor.scheduling.run_times import RunTimes
from scns_conductor.scheduling.shape import Shape
from scns_conductor.simulator.workload import TraceJob


class Predictions:
    """做完一个，它的用户还在排队的就重新预测。"""

    def __init__(
        self,
        queue: Queue,
        jobs: Sequence[TraceJob] | Mapping[int, TraceJob],
        kind: Callable[[int], Hashable] | None = None,
    ) -> None:
        """kind 是作业（在 jobs 里的号）-> 怎样算像；缺省看 CPU 数与时限。"""
        self._queue, self._jobs = queue, jobs
        self._kind = kind or (lambda number: kind_of(jobs[number]))
        self._times = RunTimes()
        self._waiting: dict[str, set[int]] = defaultdict(set)

    def arrived(self, number: int, shape: Shape) -> Shape:
        """到达：它的形状带上预测。"""
        self._waiting[self._jobs[number].user].add(number)
        return replace(shape, predicted_s=self._predict(number))

    def ended(self, number: int) -> None:
        """做完了。"""
        job = self._jobs[number]
        self._times.learn(job.user, self._kind(number), float(job.run_s))
        own = self._waiting[job.user]
        for other in list(own):
            waiting = self._queue.jobs.get(other)
            if waiting is None:
                own.discard(other)
                continue
            predicted = self._predict(other)
            if predicted != waiting.shape.predicted_s:
                # 换一个作业对象：计划器记着的是原来的那个。
                self._queue.upsert(replace(waiting, shape=replace(waiting.shape, predicted_s=predicted)))

    def _predict(self, number: int) -> float:
        job = self._jobs[number]
        return self._times.predict(job.user, self._kind(number), float(job.limit_s))


def kind_of(job: TraceJob) -> Hashable:
    """踪迹里没有作业名：CPU 数与时限一样的算像。"""
    return (job.cpus, job.limit_s)
