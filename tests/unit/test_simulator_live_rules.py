"""重放线上系统的规矩：隔开的用户、预留、上限、抢占、保留，都是算得清清楚楚的小例子。"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from test_simulator_right_size import row, system

from scns_conductor.core.accounting import Accounting, AssociationFacts, QosFacts
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.preemption import Rules
from scns_conductor.simulator.live import LiveSystem, began, closely, live_trace
from scns_conductor.simulator.live_others import held_of, others
from scns_conductor.simulator.live_replay import replay_live
from scns_conductor.simulator.metrics import measure
from scns_conductor.simulator.policy_choice import parse_policies
from scns_conductor.simulator.replay import Replay
from scns_conductor.simulator.workload import UNLIMITED_S, TraceJob

# 重复的预留的第一次在整点；时刻都从这里算起。
T0 = 1_800_000_000


class Story:
    """一个节点、四个 CPU 的系统，与一个一个交上去的作业。"""

    def __init__(self) -> None:
        self.jobs: list[TraceJob] = []
        self.system: LiveSystem = system({})

    def submit(self, user: str, at: int, run_s: int, cpus: int = 1, limit_s: int | None = None, **columns: Any) -> None:
        number = str(len(self.jobs) + 1)
        limit = run_s if limit_s is None else limit_s
        self.jobs.append(TraceJob(number, T0 + at, run_s, limit, cpus, user=user, account="lab"))
        self.system.rows[number] = row(
            **{"cpus_per_task": cpus, "user_name": user, "account": "lab", "qos": None, "time_limit": limit, **columns}
        )

    def earlier(
        self,
        user: str,
        start: int | None,
        end: int | None,
        cpus: int = 1,
        submitted: int = -1000,
        details: tuple[Any, Any] = ((), ()),
        **columns: Any,
    ) -> None:
        """不算进结果的：start、end 没有的是至今没有启动、没有做完；此刻是 T0 + 1000。"""
        number = str(1000 + len(self.system.others))
        base = row(
            job_id=number, user_name=user, account="lab", qos=None, cpus_per_task=cpus, submit_time=T0 + submitted,
            start_time=None if start is None else T0 + start, end_time=None if end is None else T0 + end,
            allocated_cpus=0 if start is None else cpus, allocated_memory=0, node_list=None if start is None else "n1",
            reason="Priority", suspended_s=0,
        )  # fmt: skip
        self.system.others += others([{**base, **columns}], T0, T0 + 1000, {number: details})

    def reserve(self, start: int, end: int, **columns: Any) -> None:
        base: dict[str, Any] = {
            "name": "r", "nodes": "n1", "users": [], "accounts": [], "groups": [], "flags": [], "licenses": None,
            "partition": None, "node_cpus": None,
        }  # fmt: skip
        times = {name: datetime.fromtimestamp(T0 + at, UTC) for name, at in (("start_time", start), ("end_time", end))}
        self.system.reservations.append({**base, **times, **columns})

    def limit(self, qos: QosFacts | None = None, **association: Any) -> None:
        own = AssociationFacts(account="lab", **association)
        everyone = [own, *(AssociationFacts(account="lab", user_name=user) for user in ("a", "b"))]
        known = {(each.account, each.user_name, each.partition): each for each in everyone}
        services = {} if qos is None else {qos.name: qos}
        accounting = Accounting({"root": None, "lab": "root"}, known, services)
        self.system = replace(self.system, enforced=frozenset({"limits", "associations"}), accounting=accounting)

    def replayed(self) -> Replay:
        return replay_live(self.system, self.jobs, parse_policies("live")[0])

    def starts(self) -> list[float | None]:
        """各作业何时启动，从 T0 起的秒数。"""
        return [None if start is None else start - T0 for start in self.replayed().starts]


@pytest.fixture
def story() -> Story:
    return Story()


# ---- 与别人隔开 ----


def test_a_node_kept_for_one_user_lets_his_other_jobs_in_and_nobody_elses(story: Story) -> None:
    story.submit("a", 0, 100, exclusive_to="user")
    story.submit("b", 1, 10)
    story.submit("a", 2, 10)
    assert story.starts() == [0, 100, 2]


def test_who_wants_a_node_for_himself_waits_until_the_others_left(story: Story) -> None:
    story.submit("b", 0, 50)
    story.submit("a", 1, 10, exclusive_to="mcs", mcs_label="secret")
    story.submit("c", 2, 5, mcs_label="secret")
    assert story.starts() == [0, 50, 2]


def test_a_job_that_ran_before_keeps_its_node_as_well(story: Story) -> None:
    story.earlier("a", -10, 30, exclusive_to="user")
    story.submit("b", 0, 10)
    assert story.starts() == [30]


# ---- 预留 ----


def test_a_reservation_keeps_others_out_and_lets_its_own_in(story: Story) -> None:
    story.reserve(50, 150, users=["b"])
    story.submit("a", 0, 100)
    story.submit("b", 10, 20, reservation="r")
    story.submit("a", 12, 20)
    # 第一个到 50 跑不完，等预留结束；第二个等它开始；第三个赶得及。
    assert story.starts() == [150, 50, 12]


def test_a_recurring_reservation_was_there_each_time_before(story: Story) -> None:
    # 第一次在两小时前，每小时一次，每次 60 秒。
    story.reserve(-7200, -7140, users=["b"], flags=["HOURLY"])
    story.submit("a", 3590, 100, limit_s=120)
    story.submit("b", 3590, 10, reservation="r")
    assert story.starts() == [3660, 3600]


def test_reserved_cores_leave_the_rest_to_others(story: Story) -> None:
    story.reserve(0, 100, users=["b"], node_cpus={"n1": 3})
    story.submit("a", 1, 10, cpus=2)
    story.submit("a", 2, 200)
    story.submit("b", 3, 10, cpus=3, reservation="r")
    assert story.starts() == [100, 2, 3]


def test_a_magnetic_reservation_takes_in_who_did_not_name_it(story: Story) -> None:
    story.reserve(0, 100, users=["b"], flags=["MAGNETIC"])
    story.submit("b", 1, 10)
    story.submit("a", 1, 10)
    assert story.starts() == [1, 100]


def test_who_may_not_use_it_never_starts_and_a_deleted_one_counts_as_none(story: Story) -> None:
    story.reserve(0, 100, users=["b"])
    story.submit("a", 1, 10, reservation="r")
    story.submit("a", 1, 10, reservation="gone")
    found = story.replayed()
    assert found.starts == [None, T0 + 100.0]
    assert found.never_started == {"1": "Reservation"}


# ---- 上限 ----


def test_a_qos_lets_each_user_run_so_many(story: Story) -> None:
    story.limit(QosFacts(name="one", max_jobs_per_user=1))
    for user, qos in (("a", "one"), ("a", "one"), ("b", "one"), ("a", None)):
        story.submit(user, 0, 10, qos=qos)
    assert story.starts() == [0, 10, 0, 0]


def test_an_account_shares_its_cpus_and_what_ran_before_counts(story: Story) -> None:
    story.limit(grp_tres={"cpu": 2})
    story.earlier("a", -10, 30)
    story.submit("a", 0, 50)
    story.submit("b", 1, 10)
    assert story.starts() == [0, 30]


def test_each_user_of_an_account_runs_so_many(story: Story) -> None:
    story.limit(max_jobs=1)
    for user in ("a", "a", "b"):
        story.submit(user, 0, 10)
    assert story.starts() == [0, 10, 0]


def test_minutes_of_running_jobs_come_back_as_they_run(story: Story) -> None:
    # 至多两个 CPU·分钟：第一个占 100 秒，每过一秒还一秒；第二个要 100，到第 80 秒才够。
    story.limit(grp_tres_run_mins={"cpu": 2})
    story.submit("a", 0, 100)
    story.submit("a", 0, 100)
    first, second = story.starts()
    assert first == 0
    assert second is not None
    assert 80 <= second <= 83


def test_used_minutes_are_a_gate_that_opens_again_when_they_decayed(story: Story) -> None:
    # 半衰期 100 秒：用掉 120 CPU·秒，上限 60，到 100 秒之后才又有余地。
    story.limit(grp_tres_mins={"cpu": 1})
    story.system = replace(story.system, half_life_s=100.0)
    story.submit("a", 0, 120)
    story.submit("a", 1, 10)
    story.submit("b", 121, 10)
    first, second, third = story.starts()
    assert (first, second) == (0, 1)
    assert third is not None
    assert 121 + 90 <= third <= 121 + 130


def test_what_never_fits_says_which_limit(story: Story) -> None:
    story.limit(grp_tres={"cpu": 1})
    story.submit("a", 0, 10, cpus=2)
    assert story.replayed().never_started == {"1": "AssocGrpCpuLimit"}


def test_what_is_no_longer_there_is_told_or_counts_as_none(story: Story) -> None:
    """历史里的作业用过、后来删掉了的：许可证、分区、QOS。"""
    story.limit()
    story.submit("a", 0, 10, licenses="gone:1")
    story.submit("a", 0, 10, qos="gone")
    story.submit("a", 0, 10, partition="gone")
    story.earlier("b", -10, 30, licenses="gone:1", qos="gone", partition="gone")
    found = story.replayed()
    assert found.never_started["1"] == "Licenses"
    assert found.starts[1] == T0


# ---- 抢占 ----


@pytest.mark.parametrize(
    ("mode", "may_requeue", "starts"),
    [
        # 重新排队：从头跑。挂起：等抢占者做完接着跑，第三个排在它后面。取消：就此结束。
        ("requeue", True, [30, 10, 130]),
        ("requeue", False, [0, 10, 30]),
        ("cancel", True, [0, 10, 30]),
        ("suspend", True, [0, 10, 120]),
        ("off", True, [0, 100, 120]),
    ],
)
def test_a_higher_tier_takes_the_node(story: Story, mode: str, may_requeue: bool, starts: list[int]) -> None:
    story.system.partitions[:] = [PartitionFacts("main"), PartitionFacts("high", tier=2)]
    story.system.preemption = Rules(default_mode=mode)
    story.submit("a", 0, 100, cpus=4, requeue=may_requeue)
    story.submit("b", 10, 20, cpus=4, partition="high")
    story.submit("a", 11, 10, cpus=4)
    assert story.starts() == starts


def test_a_cancelled_job_counts_only_what_it_ran(story: Story) -> None:
    """被抢占而取消的：跑了的那一段算占用，没有跑的不算；挂起过的照跑了的各段。"""
    story.system.partitions[:] = [PartitionFacts("main"), PartitionFacts("high", tier=2)]
    story.system.preemption = Rules(default_mode="cancel")
    story.submit("a", 0, 100, cpus=4)
    story.submit("b", 10, 30, cpus=4, partition="high")
    found = story.replayed()
    assert (found.walked, found.ran_s) == ({0: [(T0, T0 + 10)]}, {0: 10})
    ends = {place: spans[-1][1] for place, spans in found.walked.items()}
    metrics = measure(story.jobs, found.starts, 4, ends, found.ran_s)
    assert (metrics.makespan_s, metrics.utilization) == (40, 1.0)
    assert [(user.user, user.cpu_hours * 3600) for user in metrics.users] == [("b", 120), ("a", 40)]


def test_a_qos_preempts_those_it_lists_once_they_ran_long_enough(story: Story) -> None:
    known = {"low": QosFacts(name="low"), "urgent": QosFacts(name="urgent", preempt=frozenset({"low"}))}
    story.system.preemption = Rules(by_qos=True, exempt_s=40.0, qos=known)
    story.submit("a", 0, 100, cpus=4, qos="low")
    story.submit("b", 10, 20, cpus=4, qos="urgent")
    assert story.starts() == [60, 40]


def test_two_nodes_only_the_victims_that_are_needed_go(story: Story) -> None:
    story.system.nodes[:] = [NodeFacts("n1", 4, 1000), NodeFacts("n2", 4, 1000)]
    story.system.partitions[:] = [PartitionFacts("main"), PartitionFacts("high", tier=2)]
    story.system.preemption = Rules(default_mode="requeue")
    story.submit("a", 0, 100, cpus=4)
    story.submit("a", 0, 100, cpus=4)
    story.submit("b", 10, 20, cpus=4, partition="high")
    # 同样不要紧的里最年轻的先让出来。
    assert story.starts() == [0, 30, 10]


# ---- 保留 ----


def test_a_held_job_arrives_when_it_was_released(story: Story) -> None:
    story.submit("a", 0, 10, wait_breakdown={"JobHeldUser": 25.5, "Resources": 3.0})
    story.submit("a", 0, 10, cpus=4, limit_s=40)
    assert story.starts() == [25.5, 0]


# ---- 时间片 ----


def _turns(story: Story, most: int = 2, *, asked: bool = False) -> None:
    story.system.slice_s = 10.0
    story.system.partitions[:] = [PartitionFacts("main", share_most=most, share_asked=asked)]


def test_jobs_take_turns_on_the_same_cpus(story: Story) -> None:
    """两个各 30 秒的轮着走，一片 10 秒，停着的时间不算：第二个到 50、第一个到 60；第三个等第二个走了的那一次换。"""
    _turns(story)
    for _ in range(2):
        story.submit("a", 0, 30, cpus=4)
    story.submit("b", 1, 10, cpus=4)
    story.submit("b", 55, 5, cpus=4)
    # 第一个停到 60（第三个先走），第四个那时满着，到 60 秒第三个做完。
    found = story.replayed()
    assert [start and start - T0 for start in found.starts] == [0, 0, 50, 60]
    spans = {place: [(begin - T0, end - T0) for begin, end in each] for place, each in found.walked.items()}
    assert spans[1] == [(0, 10), (20, 30), (40, 50)]
    assert sum(end - begin for begin, end in spans[0]) == 30
    story.system.slice_s = None
    assert story.starts() == [0, 30, 60, 70]


def test_only_who_asked_shares_and_the_rest_waits(story: Story) -> None:
    _turns(story, asked=True)
    story.submit("a", 0, 30, cpus=4, oversubscribe=True)
    story.submit("c", 1, 20, cpus=4, oversubscribe=True)
    story.submit("b", 2, 30, cpus=4)
    story.submit("c", 3, 20, cpus=4, oversubscribe=True)
    # 排在没有要的后面的，不去推迟它。
    assert story.starts() == [0, 1, 50, 80]


def test_jobs_that_took_turns_before_go_on_taking_turns(story: Story) -> None:
    """开始时一个在走、一个停着；各停过一半的时间，所以各还要走 20 秒，第三个要等其中一个做完。"""
    _turns(story)
    story.earlier("a", -40, 40, cpus=4, suspended_s=40, oversubscribe=False)
    story.earlier("a", -40, 40, cpus=4, suspended_s=40, oversubscribe=False)
    story.submit("b", 0, 10, cpus=4)
    assert story.starts() == [30]


# ---- 开始时的样子 ----


def test_the_gres_of_running_jobs_are_taken(story: Story) -> None:
    """型号的卡也算进 gpu；分片是自己的一种。"""
    story.system.nodes[:] = [NodeFacts("n1", 4, 1000, {"gpu:a100": 2, "shard": 8})]
    story.earlier("a", -10, 30, allocated_gres="gpu:a100=1,shard=6")
    story.submit("b", 0, 10, tres_per_node="gpu:2")
    story.submit("b", 0, 10, tres_per_node="gpu:a100:1")
    story.submit("b", 0, 10, tres_per_node="shard:4")
    story.submit("b", 0, 10, tres_per_node="shard:2")
    assert story.starts() == [30, 0, 30, 0]


def test_each_node_holds_what_it_really_gave(story: Story) -> None:
    """两个节点分得不一样多：照各节点的分配，不平分；最近一次启动的才算。"""
    story.system.nodes[:] = [NodeFacts("n1", 4, 1000), NodeFacts("n2", 4, 1000)]
    shares = [("n1", 0, 4), ("n1", 1, 3), ("n2", 1, 1)]
    parts = [{"node_name": n, "restart_count": r, "cpus": c, "memory": 0, "gres": {}} for n, r, c in shares]
    story.earlier("a", -10, 30, cpus=4, node_list="n[1-2]", details=(parts, ()))
    story.submit("b", 0, 10, cpus=2, required_nodes="n1")
    story.submit("b", 0, 10, cpus=3, required_nodes="n2")
    assert story.starts() == [30, 0]
    plain = {"node_list": "n[1-2]", "allocated_cpus": 5, "allocated_memory": 10, "allocated_gres": "gpu=1"}
    assert [(each.cpus, each.memory_mb, each.gres) for each in held_of(plain)] == [(3, 5, (("gpu", 1),)), (2, 5, ())]


def test_who_waited_when_it_began_waits_with_the_others(story: Story) -> None:
    """之前就在排队、之后才启动的：不是一开始就占着，而是排在前面。"""
    story.earlier("a", -10, 30, cpus=4, time_limit=100)
    story.earlier("a", 30, 50, cpus=4, submitted=-500)
    story.submit("b", 0, 10, cpus=4)
    assert story.starts() == [50]


def test_jobs_that_have_not_ended_yet_hold_their_nodes_to_their_limit(story: Story) -> None:
    """之前启动、至今没有做完的；之后交的、至今没有做完的；排着队的，也与别人争。"""
    story.earlier("a", -10, None, cpus=1, time_limit=5000)
    story.earlier("a", 10, None, cpus=2, submitted=5, time_limit=3000)
    story.submit("b", 0, 1, cpus=4)
    story.submit("b", 6, 10, cpus=1)
    story.submit("b", 7, 10, cpus=2)
    # 第一个要等到最后，它的保留不挡短的；两个 CPU 的等后交的那个跑满时限。
    assert story.starts() == [4990, 6, 3005]


def test_a_head_that_is_still_waiting_keeps_its_turn(story: Story) -> None:
    story.earlier("a", -10, 100, cpus=2, time_limit=110)
    story.earlier("a", None, None, cpus=4, submitted=-5, time_limit=50)
    story.submit("b", 0, 10, cpus=2, limit_s=200)
    story.submit("b", 1, 10, cpus=2, limit_s=50)
    # 长的会推迟它，短的不会。
    assert story.starts() == [150, 1]


def test_the_plan_sees_their_limits_not_when_they_really_ended(story: Story) -> None:
    """在跑的 20 秒就做完，时限 100：那时没有人知道，所以 60 秒的插得进队首前面。"""
    story.earlier("a", -10, 20, cpus=2, time_limit=110)
    story.submit("b", 0, 10, cpus=4)
    story.submit("b", 1, 60, cpus=2)
    assert story.starts() == [61, 1]


def test_a_job_that_was_preempted_when_it_began_goes_on_afterwards(story: Story) -> None:
    """停着的不占 CPU：抢占它的做完接着跑，只跑还没有跑的。"""
    story.system.partitions[:] = [PartitionFacts("main"), PartitionFacts("high", tier=2)]
    story.system.preemption = Rules(default_mode="suspend")
    events = [
        {"restart_count": 0, "event_time": T0 + at, "to_state": state, "cause": cause}
        for at, state, cause in ((-100, "RUNNING", "start"), (-10, "SUSPENDED", "preempt"), (20, "RUNNING", "resume"))
    ]
    story.earlier("a", -100, 60, cpus=4, suspended_s=30, details=((), events))
    story.earlier("b", -10, 20, cpus=4, partition="high")
    story.submit("a", 0, 10, cpus=4)
    assert story.starts() == [60]


def test_running_jobs_count_in_their_array_and_may_be_requeued(story: Story) -> None:
    """同一个数组至多同时一个：在跑的那个算。被抢占的重新排队，从头再跑。"""
    story.earlier("a", -10, 30, array_job_id="9", array_max_tasks=1)
    story.submit("a", 0, 10, array_job_id="9", array_max_tasks=1)
    assert story.starts() == [30]
    again = Story()
    again.system.partitions[:] = [PartitionFacts("main"), PartitionFacts("high", tier=2)]
    again.system.preemption = Rules(default_mode="requeue")
    again.earlier("a", -10, 30, cpus=4)
    again.submit("b", 0, 10, cpus=4, partition="high")
    again.submit("b", 1, 10, cpus=4)
    assert again.starts() == [0, 50]


def test_only_what_a_row_does_not_tell_is_asked_for() -> None:
    base = {"node_list": "n1", "allocated_nodes": 1, "suspended_s": 0, "state": "COMPLETED"}
    spans = {"1": (0, 5, {}), "2": (0, 50, {}), "3": (0, 50, {"allocated_nodes": 2}), "4": (0, 50, {"suspended_s": 3})}
    rows = [{**base, "job_id": key, "start_time": a, "end_time": b, **more} for key, (a, b, more) in spans.items()]
    assert closely(rows, began([{"submit_time": 20}, {"submit_time": 10}])) == ["3", "4"]


def test_nobody_knows_when_a_job_without_a_limit_ends(story: Story) -> None:
    """不限时的 20 秒就做完，那时没有人知道：队首没有保留，60 秒的插得进去。"""
    story.submit("a", 0, 20, cpus=2, limit_s=UNLIMITED_S)
    story.submit("b", 1, 10, cpus=4)
    story.submit("b", 2, 60, cpus=2)
    assert story.starts() == [0, 62, 2]
    times = {"submit_time": T0, "start_time": T0 + 1, "end_time": T0 + 5}
    (record,) = live_trace([{"job_id": "1", "state": "COMPLETED", "time_limit": None, **times}], "").records
    assert record.requested_s == UNLIMITED_S
