"""重放与教科书的调度器逐个比较开始时刻；多节点的机器上没有唯一的答案，由穷举的裁判核对每一步。"""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import textbook_scheduler as textbook
from scns_conductor.core.replay_words import NodeGroup
from scns_conductor.simulator.machine import Machine, processor_pool
from scns_conductor.simulator.policy_choice import parse_policies
from scns_conductor.simulator.replay import Replay, replay
from scns_conductor.simulator.swf import read_swf
from scns_conductor.simulator.workload import TraceJob, clean

KTH_CUT = Path(__file__).parent.parent / "data" / "kth-sp2-cut.swf"
POOL_CPUS = 6
NODE_CPUS = (4, 4, 2)
RANKS = {
    "sjf": lambda job, now: job.limit_s,
    "wfp3": lambda job, now: -(((now - job.submit_s) / job.limit_s) ** 3 * job.cpus),
    "f1": lambda job, now: math.log10(job.limit_s) * job.cpus + 870 * math.log10(max(1, job.submit_s)),
}
# 策略 -> 教科书的 (决定, 次序)。
TEXTBOOK = {
    "fifo": (textbook.fifo, None),
    "easy": (textbook.easy, None),
    "conservative": (textbook.conservative, None),
    **{name: (textbook.easy, rank) for name, rank in RANKS.items()},
    "sjf+none": (textbook.fifo, RANKS["sjf"]),
    "sjf+conservative": (textbook.conservative, RANKS["sjf"]),
}
# 一个作业：与前一个的间隔、运行、多估的秒数、CPU。数都小，同一时刻的事件才多。
GAP = st.sampled_from([0, 0, 1, 1, 2, 3, 8])
JOB = st.tuples(GAP, st.integers(1, 12), st.sampled_from([0, 0, 1, 5, 20]), st.integers(1, POOL_CPUS))
SEARCH = settings(suppress_health_check=[HealthCheck.too_slow])


def trace_of(rows: list[tuple[int, int, int, int]], most_cpus: int, nodes: int = 0) -> list[TraceJob]:
    jobs, now = [], 1
    for number, (gap_s, run_s, over_s, cpus) in enumerate(rows):
        now += gap_s
        jobs.append(TraceJob(str(number), now, run_s, run_s + over_s, min(cpus, most_cpus), nodes=nodes))
    return jobs


def textbook_starts(jobs: list[TraceJob], cpus: int, policy: str) -> list[int]:
    decide, rank = TEXTBOOK[policy]
    plain = [textbook.Job(job.submit_s, job.run_s, job.limit_s, job.cpus) for job in jobs]
    return textbook.simulate(plain, cpus, decide, rank)


def replayed(jobs: list[TraceJob], machine: Machine, policy: str) -> Replay:
    return replay(jobs, machine, parse_policies(policy)[0])


@pytest.mark.parametrize("policy", TEXTBOOK)
@given(rows=st.lists(JOB, min_size=1, max_size=25))
@SEARCH
def test_random_traces_start_exactly_when_the_textbook_says(policy, rows):
    jobs = trace_of(rows, POOL_CPUS)
    found = replayed(jobs, Machine((processor_pool(POOL_CPUS),)), policy)
    assert found.starts == textbook_starts(jobs, POOL_CPUS, policy)
    assert not found.never_started


@pytest.mark.parametrize("policy", TEXTBOOK)
def test_a_real_log_starts_exactly_when_the_textbook_says(policy):
    trace = read_swf(KTH_CUT)
    jobs = clean(trace, trace.max_procs).jobs
    found = replayed(jobs, Machine((processor_pool(trace.max_procs),)), policy)
    assert found.starts == textbook_starts(jobs, trace.max_procs, policy)


@given(rows=st.lists(JOB, min_size=1, max_size=25), users=st.lists(st.sampled_from("ab"), min_size=25, max_size=25))
@SEARCH
def test_predicted_backfill_starts_exactly_when_the_textbook_says(rows, users):
    plain = trace_of(rows, POOL_CPUS)
    jobs = [job._replace(user=user) for job, user in zip(plain, users, strict=False)]
    guess = textbook.Guess()

    def decide(queue, running, free, now):
        return textbook.easy(queue, running, free, now, guess)

    expected = textbook.simulate(
        [textbook.Job(job.submit_s, job.run_s, job.limit_s, job.cpus, job.user) for job in jobs],
        POOL_CPUS,
        decide,
        ended=guess.learn,
    )
    assert replayed(jobs, Machine((processor_pool(POOL_CPUS),)), "easy_predicted").starts == expected


class Referee:
    """多节点的机器上的一次重放：按开始时刻与占用的节点重建任一时刻，核对决定。作业各在一个节点上。"""

    def __init__(self, jobs: list[TraceJob], found: Replay) -> None:
        self.jobs, self.found = jobs, found
        self.start = [int(start) for start in found.starts if start is not None]
        assert len(self.start) == len(jobs)
        self.node = [shares[0].node for shares in found.shares]
        self.moments = sorted({*self.start, *(begin + job.run_s for begin, job in zip(self.start, jobs, strict=True))})

    def running(self, now: int) -> list[int]:
        return [n for n, job in enumerate(self.jobs) if self.start[n] <= now < self.start[n] + job.run_s]

    def waiting(self, now: int) -> list[int]:
        return [n for n, job in enumerate(self.jobs) if job.submit_s <= now < self.start[n]]

    def free(self, running: list[int], node: int, at: int) -> int:
        """照预计的结束，at 时刻节点上空着几个。"""
        here = [n for n in running if self.node[n] == node and self.start[n] + self.jobs[n].limit_s > at]
        return NODE_CPUS[node] - sum(self.jobs[n].cpus for n in here)

    def earliest(self, running: list[int], cpus: int, now: int) -> tuple[int, list[int]]:
        """要 cpus 个的作业最早何时能开始，在哪些节点上。"""
        for at in sorted({now, *(self.start[n] + self.jobs[n].limit_s for n in running)}):
            nodes = [node for node in range(len(NODE_CPUS)) if self.free(running, node, at) >= cpus]
            if at >= now and nodes:
                return at, nodes
        raise AssertionError("空的机器也放不下")

    def check_capacity(self) -> None:
        for now in self.moments:
            for node, cpus in enumerate(NODE_CPUS):
                assert sum(self.jobs[n].cpus for n in self.running(now) if self.node[n] == node) <= cpus, (now, node)

    def check_nothing_waits_in_vain(self, *, backfill: bool) -> None:
        """每个时刻过后：队首放不下；其余放得下而没有启动的，都会推迟队首（不回填时就是排在它后面）。"""
        for now in self.moments:
            running, waiting = self.running(now), self.waiting(now)
            if not waiting:
                continue
            head = self.jobs[waiting[0]]
            shadow, reserved = self.earliest(running, head.cpus, now)
            assert shadow > now, ("队首放得下却在等", now, head)
            for job in (self.jobs[n] for n in waiting[1:] if backfill):
                fits = [node for node in range(len(NODE_CPUS)) if self.free(running, node, now) >= job.cpus]
                harmful = [
                    node
                    for node in fits
                    if now + job.limit_s > shadow and self.free(running, node, shadow) - head.cpus < job.cpus
                ]
                assert fits == harmful, ("白等", now, job)
                assert len(fits) <= 1, ("只保留了一个节点", now, job)
                assert set(fits) <= set(reserved), ("没有保留这个节点", now, job)

    def check_the_head_is_never_delayed(self) -> None:
        """回填启动的作业没有推迟当时的队首。同一时刻有几个事件的，分不清是哪一遍的决定，不看。"""
        events = Counter(begin + job.run_s for begin, job in zip(self.start, self.jobs, strict=True))
        events.update(job.submit_s for job in self.jobs)
        for number, begin in enumerate(self.start):
            if events[begin] > 1:
                continue
            ahead = [n for n in self.waiting(begin) if n < number]
            if ahead:
                others = [n for n in self.running(begin) if n < ahead[0] or self.start[n] < begin]
                cpus = self.jobs[ahead[0]].cpus
                assert self.earliest([*others, number], cpus, begin)[0] == self.earliest(others, cpus, begin)[0]


@given(rows=st.lists(JOB, min_size=1, max_size=18))
@SEARCH
def test_on_several_nodes_nothing_is_overcommitted_delayed_or_left_waiting_in_vain(rows):
    jobs = trace_of(rows, max(NODE_CPUS), nodes=1)
    machine = Machine(tuple(NodeGroup(1, cpus) for cpus in NODE_CPUS))
    for policy in ("fifo", "easy"):
        referee = Referee(jobs, replayed(jobs, machine, policy))
        referee.check_capacity()
        referee.check_nothing_waits_in_vain(backfill=policy == "easy")
        referee.check_the_head_is_never_delayed()
    Referee(jobs, replayed(jobs, machine, "conservative")).check_capacity()


@given(rows=st.lists(JOB, min_size=1, max_size=18))
@SEARCH
def test_jobs_that_may_spread_over_nodes_get_all_their_processors(rows):
    jobs = trace_of(rows, 2 * sum(NODE_CPUS))
    found = replayed(jobs, Machine(tuple(NodeGroup(1, cpus) for cpus in NODE_CPUS)), "conservative")
    for job, start, shares in zip(jobs, found.starts, found.shares, strict=True):
        assert start is not None
        assert sum(share.cpus for share in shares) == job.cpus
    for now in {start for start in found.starts if start is not None}:
        used = [0] * len(NODE_CPUS)
        for job, start, shares in zip(jobs, found.starts, found.shares, strict=True):
            if start is not None and start <= now < start + job.run_s:
                for share in shares:
                    used[share.node] += share.cpus
        assert all(busy <= cpus for busy, cpus in zip(used, NODE_CPUS, strict=True))
