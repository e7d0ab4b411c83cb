"""教科书的 FIFO、EASY、conservative 回填，纯 Python，只给测试当裁判：与被测的代码没有一行共用。

机器是 cpus 个处理器的池。规则：每个事件之后一遍；同一时刻先到达再结束，几个结束按启动的先后；
已到预计结束、还没有轮到它的结束事件的，当作一秒之后归还。
"""

import bisect
import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Job(NamedTuple):
    """提交、运行、估计都是秒；run_s <= limit_s。"""

    submit_s: int
    run_s: int
    limit_s: int
    cpus: int
    user: str = ""


class Running(NamedTuple):
    """预计结束的时刻与占着的处理器。"""

    end_s: int
    cpus: int


# 一遍：(排队的作业，运行中的，空闲，现在) -> 此刻启动哪些（队列里的位置）。
Pass = Callable[[Sequence[Job], Sequence[Running], int, int], list[int]]


# 次序：(作业, 现在) -> 键，小者先；相同的先来后到。
Rank = Callable[[Job, int], float]


def simulate(
    jobs: Sequence[Job],
    cpus: int,
    decide: Pass,
    rank: Rank | None = None,
    ended: Callable[[Job], None] = lambda job: None,
) -> list[int]:
    """各作业的开始时刻（秒）。jobs 按提交排好；rank 缺省是先来后到；ended 在一个作业结束时知道它。"""
    starts = [-1] * len(jobs)
    events = [(job.submit_s, 0, number, number) for number, job in enumerate(jobs)]
    heapq.heapify(events)
    waiting: list[int] = []
    running: dict[int, Running] = {}
    free, started = cpus, 0
    while events:
        now, kind, _, number = heapq.heappop(events)
        if kind == 0:
            waiting.append(number)
        else:
            free += running.pop(number).cpus
            ended(jobs[number])
        # 什么也启动不了的不必看：到达的放不下，或最小的也放不下。
        if kind == 0 and jobs[number].cpus > free:
            continue
        if rank is not None:
            waiting.sort(key=lambda each: (rank(jobs[each], now), each))
        chosen = decide([jobs[each] for each in waiting], list(running.values()), free, now)
        for each in [waiting[index] for index in chosen]:
            job = jobs[each]
            free -= job.cpus
            assert free >= 0
            starts[each] = now
            running[each] = Running(now + job.limit_s, job.cpus)
            started += 1
            heapq.heappush(events, (now + job.run_s, 1, started, each))
            waiting.remove(each)
    return starts


def fifo(queue: Sequence[Job], running: Sequence[Running], free: int, now: int) -> list[int]:
    """从队首起，放不下就停。"""
    chosen = []
    for index, job in enumerate(queue):
        if job.cpus > free:
            break
        free -= job.cpus
        chosen.append(index)
    return chosen


def easy(
    queue: Sequence[Job],
    running: Sequence[Running],
    free: int,
    now: int,
    length: Callable[[Job], float] = lambda job: 0.0,
) -> list[int]:
    """队首受阻时算影子时刻与多余的处理器；后面的作业要么在影子之前结束，要么只用多余的。

    后面的按 length 从短到长地看，一样的先来后到；算影子与碰不碰它仍照时限。
    """
    chosen = fifo(queue, running, free, now)
    started = [Running(now + queue[index].limit_s, queue[index].cpus) for index in chosen]
    free -= sum(job.cpus for job in started)
    if len(chosen) == len(queue):
        return chosen
    head = queue[len(chosen)]
    ends = sorted((max(job.end_s, now + 1), job.cpus) for job in (*running, *started))
    at_shadow, shadow_s = free, now
    for end_s, released in ends:
        if at_shadow >= head.cpus and end_s > shadow_s:
            break
        at_shadow, shadow_s = at_shadow + released, end_s
    extra = at_shadow - head.cpus
    for index in sorted(range(len(chosen) + 1, len(queue)), key=lambda each: length(queue[each])):
        job = queue[index]
        if job.cpus > free:
            continue
        if now + job.limit_s > shadow_s:
            if job.cpus > extra:
                continue
            extra -= job.cpus
        free -= job.cpus
        chosen.append(index)
    return chosen


def conservative(queue: Sequence[Job], running: Sequence[Running], free: int, now: int) -> list[int]:
    """每一遍从空白的剖面起，按先来后到给每个作业最早的一段；此刻就开始的启动。"""
    times, room = [now], [free]

    def split(moment: int) -> int:
        index = bisect.bisect_left(times, moment)
        if index == len(times) or times[index] != moment:
            times.insert(index, moment)
            room.insert(index, room[index - 1])
        return index

    for each in running:
        for index in range(split(max(each.end_s, now + 1)), len(times)):
            room[index] += each.cpus
    chosen = []
    for index, job in enumerate(queue):
        for first in range(len(times)):
            end_s = times[first] + job.limit_s
            last = bisect.bisect_left(times, end_s)
            if min(room[first:last]) >= job.cpus:
                break
        begin_s = times[first]
        for slot in range(first, split(end_s)):
            room[slot] -= job.cpus
        if begin_s == now:
            chosen.append(index)
    return chosen


class Guess:
    """一个作业多半跑多久：用户、CPU 数与时限都一样的最近两个的平均，没有就是他的最近两个；进到 2 的四分之一次幂。"""

    def __init__(self) -> None:
        self.done: list[Job] = []

    def learn(self, job: Job) -> None:
        """又做完一个。"""
        self.done.append(job)

    def __call__(self, job: Job) -> float:
        own = [each for each in self.done if each.user == job.user]
        alike = [each for each in own if (each.cpus, each.limit_s) == (job.cpus, job.limit_s)]
        latest = (alike or own)[-2:]
        if not latest:
            return job.limit_s
        mean = sum(each.run_s for each in latest) / len(latest)
        rung = 0
        while 2 ** (rung / 4) < mean:
            rung += 1
        return min(float(job.limit_s), 2 ** (rung / 4))
