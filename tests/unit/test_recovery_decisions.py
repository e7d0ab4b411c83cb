"""核对的决定：数据库要什么，牧守进程有什么，该做什么。"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.worker.agent.reconcile import (
    Abandon,
    HeldAllocation,
    Kill,
    Launch,
    Lost,
    Resume,
    RunningTask,
    SetTimeLimit,
    Suspend,
    decide,
)


def held(job_id: int = 1, **changes: Any) -> HeldAllocation:
    values: dict[str, Any] = {
        "allocation_id": job_id,
        "job_id": job_id,
        "restart_count": 0,
        "current_attempt": 0,
        "node_index": 0,
        "claimed": True,
        "state": "RUNNING",
        "requested_end_state": None,
        "requested_end_reason": None,
        "time_limit": None,
        "cpu_ids": None,
        "gres_ids": None,
        "claimed_before_boot": False,
    }
    return HeldAllocation(**(values | changes))


def running(job_id: int = 1, **changes: Any) -> RunningTask:
    values: dict[str, Any] = {
        "job_id": job_id,
        "attempt": 0,
        "step": "batch",
        "pid": 100,
        "suspended": False,
        "cause": None,
        "time_limit_s": None,
    }
    return RunningTask(**(values | changes))


def test_agreement_needs_nothing() -> None:
    assert decide([held()], [running()], set(), set()) == []


def test_unclaimed_is_launched_or_abandoned() -> None:
    assert decide([held(claimed=False)], [], set(), set()) == [Launch(1)]
    assert decide([held(claimed=False, requested_end_state="CANCELLED")], [], set(), set()) == [Abandon(1)]
    assert decide([held(claimed=False, state="SUSPENDED")], [], set(), set()) == []


def test_missing_process_is_lost_unless_accounted_for() -> None:
    assert [type(action) for action in decide([held()], [], set(), set())] == [Lost]
    assert decide([held()], [], {(1, 0)}, set()) == []
    assert decide([held()], [], set(), {(1, 0)}) == []


def test_other_node_of_a_job_needs_no_process_until_it_reboots() -> None:
    assert decide([held(node_index=1)], [], set(), set()) == []
    assert [type(a) for a in decide([held(node_index=1, claimed_before_boot=True)], [], set(), set())] == [Lost]


def test_strangers_and_old_attempts_are_killed_at_once() -> None:
    (kill,) = decide([], [running()], set(), set())
    assert isinstance(kill, Kill)
    assert (kill.cause, kill.grace_s) == ("stale", 0)
    actions = decide([held(restart_count=1, current_attempt=1, claimed=False)], [running()], set(), set())
    assert isinstance(actions[0], Kill)
    assert actions[0].attempt == 0
    assert actions[1:] == [Launch(1)]


def test_stale_allocation_row_is_not_acted_on() -> None:
    assert decide([held(restart_count=0, current_attempt=1)], [], set(), set()) == []


def test_requested_end_kills_once() -> None:
    (kill,) = decide([held(requested_end_state="PREEMPTED", requested_end_reason="让位")], [running()], set(), set())
    assert kill == Kill(1, 0, "preempt", "让位", None)
    assert decide([held(requested_end_state="CANCELLED")], [running(cause="cancel")], set(), set()) == []


def test_suspension_and_time_limit_follow_the_database() -> None:
    assert decide([held(state="SUSPENDED")], [running()], set(), set()) == [Suspend(1, 0)]
    assert decide([held()], [running(suspended=True)], set(), set()) == [Resume(1, 0)]
    assert decide([held(time_limit=60)], [running(time_limit_s=60.0)], set(), set()) == []
    assert decide([held(time_limit=60)], [running()], set(), set()) == [SetTimeLimit(1, 0, 60)]


@given(
    st.lists(
        st.builds(
            held,
            job_id=st.integers(1, 4),
            restart_count=st.integers(0, 1),
            current_attempt=st.integers(0, 1),
            claimed=st.booleans(),
            state=st.sampled_from(["RUNNING", "SUSPENDED"]),
            requested_end_state=st.sampled_from([None, "CANCELLED", "PENDING"]),
        ),
        unique_by=lambda row: row.job_id,
    ),
    st.lists(
        st.builds(running, job_id=st.integers(1, 4), attempt=st.integers(0, 1), suspended=st.booleans()),
        unique_by=lambda task: task.owner,
    ),
)
def test_never_launches_what_runs_and_never_keeps_what_is_not_wanted(
    rows: list[HeldAllocation], tasks: list[RunningTask]
) -> None:
    actions = decide(rows, tasks, set(), set())
    wanted = {(row.job_id, row.restart_count) for row in rows if row.restart_count == row.current_attempt}
    killed = {(action.job_id, action.attempt) for action in actions if isinstance(action, Kill)}
    for task in tasks:
        assert task.owner in wanted or task.owner in killed
    claimed = {row.job_id for row in rows if row.claimed and row.restart_count == row.current_attempt}
    assert not claimed & {action.job_id for action in actions if isinstance(action, Launch | Abandon)}


def test_another_launch_of_the_same_attempt_is_a_stray_not_the_job() -> None:
    """数据库恢复过：作业号与尝试都相同，却是另一次启动。旧的杀掉，新的还没有进程就是丢失。"""
    actions = decide([held(launch_id=5)], [running(launch_id=4)], set(), set())
    assert [(type(action), action.launch_id) for action in actions if isinstance(action, Kill | Lost)] == [
        (Kill, 4),
        (Lost, 5),
    ]
    assert decide([held(launch_id=5)], [running(launch_id=5)], set(), set()) == []
    both = [running(launch_id=4), running(launch_id=5)]
    assert [
        action.launch_id for action in decide([held(launch_id=5)], both, set(), set()) if isinstance(action, Kill)
    ] == [4]


def test_a_launch_of_the_previous_version_is_known_by_its_number() -> None:
    assert decide([held(launch_id=5)], [running(launch_id=None)], set(), set()) == []


def test_a_kept_stranger_is_left_alone() -> None:
    assert decide([], [running(launch_id=4, foreign=True)], set(), set()) == []
