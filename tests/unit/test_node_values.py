"""节点上的纯计算：资源探测的解析、核与卡的挑选、环境变量、解释器、结束的换算。"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.states import JobState
from scns_conductor.worker.agent.core_binding import Binding, CorePool
from scns_conductor.worker.agent.cpu_topology import plain_units
from scns_conductor.worker.agent.devices import (
    parse_node_gres,
)
from scns_conductor.worker.agent.finisher import end_age_s, job_end
from scns_conductor.worker.agent.gpus.card import Accelerator
from scns_conductor.worker.agent.job_environment import array_bounds, repeat_list
from scns_conductor.worker.agent.launch_plan import LaunchRefused, interpreter, signal_number
from scns_conductor.worker.agent.own_ends import OwnEnds
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import LaunchSpec


def test_node_gres_text() -> None:
    assert parse_node_gres("gpu:a100:4, nic:2,license_dongle") == {"gpu:a100": 4, "nic": 2, "license_dongle": 1}
    assert parse_node_gres("gpu:3") == {"gpu": 3}
    for bad in ("gpu:a100:x:y", "g pu:1"):
        with pytest.raises(ValueError, match="无法识别"):
            parse_node_gres(bad)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 5), st.integers(0, 3)), max_size=60))
def test_cores_and_cards_are_never_shared(steps: list[tuple[bool, int, int, int]]) -> None:
    cores = (0, 1, 2, 3, 8, 9, 10, 11)
    cards = [Accelerator(index, "a100" if index < 2 else "v100", "none") for index in range(4)]
    pool = CorePool(plain_units(cores), cards)
    held: dict[int, tuple[set[int], set[int]]] = {}
    for take, job, cpus, gpus in steps:
        if not take:
            pool.give_back((job, 0))
            held.pop(job, None)
        elif job not in held:
            binding = pool.take((job, 0), cpus, {"gpu:a100": gpus} if gpus else {}, unbound=True)
            if binding is None:
                assert len({0, 1} - set().union(*(other[1] for other in held.values()))) < gpus
                continue
            mine = set(binding.cpu_ids or ()), set(binding.accelerator_ids)
            assert len(mine[0]) in (0, cpus)
            assert mine[0] <= set(cores)
            assert mine[1] <= {0, 1}
            for other in held.values():
                assert not mine[0] & other[0]
                assert not mine[1] & other[1]
            held[job] = mine
    for job in list(held):
        pool.give_back((job, 0))
    everything = pool.take((99, 0), 8, {"gpu": 4}, unbound=False)
    assert everything is not None
    assert everything.cpu_ids == cores


def test_cores_next_to_each_other_are_preferred() -> None:
    pool = CorePool(plain_units(range(8)), [])
    pool.restore((1, 0), [1], {})
    assert pool.take((2, 0), 3, {}, unbound=False) == Binding((2, 3, 4))
    assert pool.take((3, 0), 9, {}, unbound=False) == Binding(None)


def test_repeat_list() -> None:
    assert repeat_list([2, 2, 2, 1]) == "2(x3),1"
    assert repeat_list([4]) == "4"
    assert repeat_list([]) == ""


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("0-9", (0, 9, 10, 1)),
        ("0-9:3%2", (0, 9, 4, 3)),
        ("0-10:3", (0, 9, 4, 3)),
        ("1,5,20-22", (1, 22, 5, 1)),
        ("7", (7, 7, 1, 1)),
        ("x", None),
        ("", None),
    ],
)
def test_array_bounds(text: str, bounds: tuple[int, int, int, int] | None) -> None:
    assert array_bounds(text) == bounds


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo hi\n", ["/bin/bash"]),
        ("#!/usr/bin/env python3\nprint(1)\n", ["/usr/bin/env", "python3"]),
        ("#! /bin/sh -e -u \r\n", ["/bin/sh", "-e -u"]),
        ("#!\n", ["/bin/bash"]),
        ("#!/bin/zsh", ["/bin/zsh"]),
    ],
)
def test_interpreter(script: str, expected: list[str]) -> None:
    assert interpreter(script) == expected


def test_signal_names() -> None:
    assert [signal_number(text) for text in ("USR1", "sigusr1", "10", "KILL")] == [10, 10, 10, 9]
    for bad in ("", "0", "999", "NOPE"):
        with pytest.raises(LaunchRefused):
            signal_number(bad)


@pytest.mark.parametrize(
    ("cause", "status", "number", "state", "requeue"),
    [
        ("exit", 0, 0, JobState.COMPLETED, False),
        ("exit", 3, 0, JobState.FAILED, False),
        ("exit", 0, 11, JobState.FAILED, False),
        ("timeout", 0, 15, JobState.TIMEOUT, False),
        ("oom", 0, 9, JobState.OUT_OF_MEMORY, False),
        ("cancel", 0, 15, JobState.CANCELLED, False),
        ("shutdown", 0, 15, JobState.CANCELLED, True),
        ("unseen", None, None, JobState.NODE_FAIL, True),
        ("reboot", None, None, JobState.NODE_FAIL, True),
    ],
)
def test_end_becomes_a_state(
    cause: str, status: int | None, number: int | None, state: JobState, requeue: bool
) -> None:
    record = EndRecord(
        key="1.2.batch",
        job_id=1,
        attempt=2,
        step="batch",
        cause=cause,
        exit_status=status,
        exit_signal=number,
        message="a\0b",
    )
    end = job_end(record, actor="agent@n", end_unix_s=1.0, outputs=[])
    assert (end.state, end.requeue_if_allowed, end.exit_status, end.exit_signal) == (state, requeue, status, number)
    assert "\0" not in (end.message or "")


def test_node_fault_may_be_requeued_and_job_fault_not() -> None:
    fault = OwnEnds("b").make((1, 0), 5, "launch_failed", "盘满", on_node=True)
    assert job_end(fault, actor="a", end_unix_s=None, outputs=[]).state is JobState.NODE_FAIL
    wrong = OwnEnds("b").make((1, 0), 5, "launch_failed", "没有目录")
    end = job_end(wrong, actor="a", end_unix_s=None, outputs=[])
    assert (end.state, end.exit_status, end.requeue_if_allowed) == (JobState.FAILED, 1, False)


def test_end_age_is_independent_of_the_wall_clock() -> None:
    end = OwnEnds("b").make((1, 0), None, "exit").replace(ended_boot_s=100.0, ended_unix_s=0.0)
    assert end_age_s(end, boot_id="b", boot_now_s=130.0) == 30.0
    assert end_age_s(end, boot_id="other", boot_now_s=130.0) is None
    assert end_age_s(end.replace(cause="reboot"), boot_id="b", boot_now_s=130.0) is None


def test_launch_spec_round_trip_and_refusals() -> None:
    spec = LaunchSpec(job_id=1, attempt=0, step="batch", argv=["/bin/true"], env={}, cwd="/", time_limit_s=5)
    assert LaunchSpec.from_wire(spec.to_wire()).to_wire() == spec.to_wire()
    for wrong in ({"surprise": 1}, {"argv": []}, {"output_mode": "x"}, {"script": "x"}):
        with pytest.raises(ValueError):
            LaunchSpec.from_wire({**spec.to_wire(), **wrong})
