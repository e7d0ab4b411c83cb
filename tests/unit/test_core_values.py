"""时间、内存、主机列表与状态转移表。"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.models import Node
from scns_conductor.core.states import TERMINAL_STATES, TRANSITIONS, JobState, node_state, sources_of
from scns_conductor.core.units import format_duration, format_memory_mb, parse_memory_mb, parse_time_limit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 7200),
        (30, 1800),
        ("0:01", 1),
        ("90:30", 5430),
        ("1:2:3", 3723),
        ("2-3", 183600),
        ("1-0:30", 88200),
        ("1-02:03:04", 93784),
        ("UNLIMITED", None),
        ("infinite", None),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text, seconds):
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0:00", "-5", "1-99:00", "1-0:60", "1:2:3:4", "x", "1.5", "１２", "9" * 30])
def test_bad_time_limits_are_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_time_limit(text)


@given(st.integers(min_value=1, max_value=10**8))
def test_a_formatted_duration_reads_back(seconds):
    assert parse_time_limit(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("16G", 16384), ("512", 512), ("512M", 512), ("1k", 1), ("1025K", 2), ("1T", 1048576), ("2GiB", 2048), ("0", 0)],
)
def test_memory_is_read_in_every_slurm_form(text, megabytes):
    assert parse_memory_mb(text) == megabytes


@pytest.mark.parametrize("text", ["16Q", "", "-1", "G", "1 0", "9999999P"])
def test_bad_memory_is_refused(text):
    with pytest.raises(ValueError, match="内存"):
        parse_memory_mb(text)


@given(st.integers(min_value=0, max_value=2**30))
def test_formatted_memory_reads_back(megabytes):
    assert parse_memory_mb(format_memory_mb(megabytes)) == megabytes


def test_hostlists_expand_and_compress():
    assert expand("n[1-3,5],gpu07,r[1-2]c[1-2]") == ["n1", "n2", "n3", "n5", "gpu07", "r1c1", "r1c2", "r2c1", "r2c2"]
    assert compress(["n1", "n2", "n3", "n5", "login"]) == "n[1-3,5],login"
    assert compress(["n09", "n10", "n11"]) == "n[09-11]"
    assert compress(["n1"]) == "n1"


@given(st.sets(st.integers(min_value=0, max_value=200), min_size=1), st.sampled_from(["n", "gpu-"]))
def test_a_compressed_hostlist_expands_to_the_same_hosts(numbers, prefix):
    hosts = {f"{prefix}{number}" for number in numbers}
    assert set(expand(compress(hosts))) == hosts


@pytest.mark.parametrize("text", ["n[1-3", "n1-3]", "n[3-1]", "n[a-b]", "n[1-999999999]"])
def test_bad_hostlists_are_refused(text):
    with pytest.raises(ValueError, match="主机列表"):
        expand(text)


def test_a_finished_job_can_only_go_back_to_the_queue():
    for state in TERMINAL_STATES:
        assert TRANSITIONS[state] == {JobState.PENDING}
    assert sources_of(JobState.RUNNING) == ["PENDING", "SUSPENDED"]


def test_node_states_are_told_in_slurms_words():
    def told(**now):
        return node_state(Node(name="n", address="n", memory=1, cpus=4, **now).model_dump())

    assert told(state="UP") == "IDLE"
    assert told(state="UP", drain=True, allocated_cpus=2) == "MIXED+DRAIN"
    assert told(state="UP", allocated_cpus=4) == "ALLOCATED"
    assert told(state="DOWN") == "DOWN"
    assert told(state="UP", reboot="REQUESTED", allocated_cpus=1) == "MIXED+REBOOT_REQUESTED"
    assert told(state="UNKNOWN", power_state="OFF", cloud=True) == "IDLE+CLOUD+POWERED_DOWN"
    assert told(state="UNKNOWN", power_state="POWERING_UP", allocated_cpus=4) == "ALLOCATED+POWERING_UP"
    assert told(state="DOWN", power_state="OFF") == "DOWN+POWERED_DOWN"
