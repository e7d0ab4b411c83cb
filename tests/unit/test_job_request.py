"""请求体（api/job_request.py）：slurmrestd 的各种写法换成的列，与不合法的写法。"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scns_conductor.api.job_request import UPDATABLE, BatchRequest, JobRequest, SubmitRequest
from scns_conductor.core.models import JobSpec


def columns(**job: Any) -> dict[str, Any]:
    return JobRequest.model_validate(job).columns()


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({}, {}),
        ({"time_limit": "120"}, {"time_limit": 7200}),
        ({"time_limit": 120}, {"time_limit": 7200}),
        ({"time_limit": {"set": True, "infinite": False, "number": 2}}, {"time_limit": 120}),
        ({"time_limit": {"set": True, "infinite": True, "number": 0}}, {"time_limit": None}),
        ({"time_limit": "1-02:03:04"}, {"time_limit": 93784}),
        ({"time_limit": "UNLIMITED"}, {"time_limit": None}),
        ({"memory_per_node": "16G"}, {"memory_per_node": 16384}),
        ({"memory_per_node": 100}, {"memory_per_node": 100}),
        ({"memory_per_cpu": {"set": True, "number": 512}}, {"memory_per_cpu": 512}),
        ({"nodes": "2-4"}, {"minimum_nodes": 2, "maximum_nodes": 4}),
        ({"nodes": 3}, {"minimum_nodes": 3, "maximum_nodes": 3}),
        ({"ntasks": 5}, {"tasks": 5}),
        ({"ntasks_per_node": 2}, {"tasks_per_node": 2}),
        ({"tasks_per_node": 2}, {"tasks_per_node": 2}),
        ({"minimum_cpus": 7, "cpus_per_task": 2}, {"tasks": 4, "cpus_per_task": 2}),
        ({"minimum_cpus": 7, "tasks": 1}, {"tasks": 1}),
        ({"gres": "gpu:a100:2"}, {"tres_per_node": "gpu:a100:2"}),
        ({"environment": ["A=1", "B=x=y"]}, {"environment": {"A": "1", "B": "x=y"}}),
        ({"required_nodes": ["n1", "n[3-4]"]}, {"required_nodes": "n1,n[3-4]"}),
        ({"exclusive": "user"}, {"exclusive": False, "exclusive_to": "user"}),
        ({"exclusive": ["mcs"], "mcs_label": "x"}, {"exclusive": False, "exclusive_to": "mcs", "mcs_label": "x"}),
        ({"exclusive": ["oversubscribe"]}, {"exclusive": False}),
        ({"hold": True}, {"hold": "user"}),
        ({"hold": False}, {"hold": None}),
        ({"umask": "0022"}, {"umask": 18}),
        ({"array": "", "dependency": ""}, {"array": None, "dependency": None}),
        ({"cpus_per_task": None}, {}),
    ],
)
def test_what_is_asked_becomes_columns(job: dict[str, Any], expected: dict[str, Any]) -> None:
    assert columns(**job) == expected


@pytest.mark.parametrize(
    "job",
    [
        {"nope": 1},
        {"user_name": "root"},
        {"time_limit": "0"},
        {"time_limit": True},
        {"time_limit": {"number": 3, "extra": 1}},
        {"memory_per_node": "16Q"},
        {"memory_per_node": -1},
        {"memory_per_node": "1G", "memory_per_cpu": "1G"},
        {"nodes": "4-2"},
        {"nodes": "0"},
        {"nodes": True},
        {"minimum_nodes": 4, "maximum_nodes": 2},
        {"cpus_per_task": 0},
        {"cpus_per_task": 2**31},
        {"current_working_directory": "work"},
        {"environment": ["A"]},
        {"environment": {"": "1"}},
        {"environment": {"A=B": "1"}},
        {"environment": {"A\nB": "1"}},
        {"environment": {"A": "\0"}},
        {"name": ""},
        {"name": "n" * 300},
        {"comment": "a\0b"},
        {"argv": ["a\0b"]},
        {"open_mode": "write"},
        {"umask": "99"},
        {"umask": 0o1000},
        {"kill_warning_signal": "usr1; rm"},
        {"required_nodes": "n[1-"},
        {"begin_time": "someday"},
        {"priority": -1},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(job: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobRequest.model_validate(job)


def test_every_field_that_can_be_changed_exists() -> None:
    names = set(JobRequest.model_fields)
    aliases = {"gres"}
    assert names | aliases >= UPDATABLE


def test_every_column_asked_for_is_a_column_of_the_job() -> None:
    left_to_the_service = {"nodes", "minimum_cpus", "array_max_tasks", "interactive", "submit_host", "array"}
    assert set(JobRequest.model_fields) - left_to_the_service <= set(JobSpec.model_fields)


@given(st.dictionaries(st.sampled_from(sorted(JobRequest.model_fields)),
                       st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
                       | st.lists(st.text(max_size=4), max_size=3)
                       | st.dictionaries(st.sampled_from(["set", "infinite", "number"]), st.integers(), max_size=3),
                       max_size=4))  # fmt: skip
def test_no_value_makes_the_validation_fail_otherwise(job: dict[str, Any]) -> None:
    try:
        JobRequest.model_validate(job).columns()
    except ValidationError:
        return


def test_the_bodies_take_nothing_else() -> None:
    with pytest.raises(ValidationError):
        SubmitRequest.model_validate({"script": "true", "user": "root"})
    with pytest.raises(ValidationError):
        BatchRequest.model_validate({"jobs": []})
