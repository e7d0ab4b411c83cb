"""重放线上系统的规矩：隔开的用户、预留、上限、抢占、保留，都是算得清清楚楚的小例子。"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from test_simulator_right_size import row, system

from scns_conductor.core.accounting import Accounting, AssociationFacts, QosFacts
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.preemption import Rules
from scns_conductor.simulator.live import LiveSystem, Occupied
from scns_conductor.simulator.live_replay import replay_live
from scns_conductor.simulator.policy_choice import parse_policies
from scns_conductor.simulator.replay import Replay
from scns_conductor.simulator.workload import TraceJob

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
    running = row(user_name="a", exclusive_to="user", licenses=None, start_time=T0 - 10)
    story.system.occupied.append(Occupied(("n1",), 1, 0, T0 + 30, running))
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
    running = row(user_name="a", account="lab", qos=None, licenses=None, start_time=T0 - 10, allocated_cpus=1)
    running |= {"allocated_memory": 0, "allocated_gres": None, "requested_partitions": None, "time_limit": 100}
    story.system.occupied.append(Occupied(("n1",), 1, 0, T0 + 30, running))
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
