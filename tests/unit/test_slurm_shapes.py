"""字段表（slurm/shapes/fields.txt）：每一版都读得通；写与读。"""

from typing import Any

import pytest

from scns_conductor.slurm.shapes.accounts import association_changes, qos_changes, qos_record, stable_id
from scns_conductor.slurm.shapes.schema import (
    INFINITE,
    VERSIONS,
    BodyError,
    accept,
    fields_of,
    render,
    words_of,
)
from scns_conductor.slurm.shapes.schema import _tables as tables
from scns_conductor.slurmrestd.dispatch import find
from scns_conductor.slurmrestd.document import document

PLAIN = {"str", "bool", "i32", "i64", "num", "u32", "u64", "f64", "map", "any"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_reference_in_the_table_is_there(version: str) -> None:
    for name in tables():
        if name.startswith(":"):
            assert words_of(name[1:], version) or name[1:] in ("rollup_type", "job_exclusive_flags")
            continue
        for field in fields_of(name, version).values():
            if field.kind.startswith(":"):
                assert words_of(field.kind[1:], version)
            elif field.kind.startswith("@"):
                assert field.kind[1:] in tables()
            else:
                assert field.kind in PLAIN
        assert render(name, version, {}).keys() <= fields_of(name, version).keys()


def test_writing_fills_drops_and_wraps() -> None:
    given = {"job_id": "3", "job_state": ["RUNNING", "MADE_UP"], "time_limit": INFINITE, "step_id": {}, "nonsense": 1}
    old, new = (render("job_info", version, given) for version in ("v0.0.40", "v0.0.44"))
    assert (new["job_id"], new["job_state"]) == (3, ["RUNNING"])
    assert new["time_limit"] == {"set": False, "infinite": True, "number": 0}
    assert new["priority"] == {"set": False, "infinite": False, "number": 0}
    assert "nonsense" not in new
    assert "job_resources" not in new
    assert ("step_id" in new, "step_id" in old) == (True, False)
    assert ("exclusive" in new, "exclusive" in old) == (False, True)


def test_reading_is_lenient_but_says_what_it_did_not_know() -> None:
    unknown: list[str] = []
    body = {
        "script": "x",
        "job": {
            "environment": {"A": "b"},
            "time_limit": {"set": True, "number": 4},
            "priority": {"set": False},
            "memory_per_node": "4G",
            "mail_type": ["begin"],
            "required_nodes": "n1,n2",
            "partition": None,
            "nope": 1,
        },
    }
    found = accept("job_submit_req", "v0.0.44", body, unknown)
    assert unknown == ["job.nope"]
    assert found == {
        "script": "x",
        "job": {
            "environment": ["A=b"],
            "time_limit": 4,
            "memory_per_node": "4G",
            "mail_type": ["BEGIN"],
            "required_nodes": ["n1", "n2"],
        },
    }


@pytest.mark.parametrize(
    ("job", "field"),
    [
        ({"tasks": "many"}, "job.tasks"),
        ({"tasks": True}, "job.tasks"),
        ({"environment": 3}, "job.environment"),
        ({"mail_type": ["NEVER"]}, "job.mail_type[0]"),
        ({"time_limit": {"seconds": 3}}, "job.time_limit"),
        ({"hold": "perhaps"}, "job.hold"),
        ({"rlimits": []}, "job.rlimits"),
    ],
)
def test_reading_names_what_is_wrong(job: dict[str, Any], field: str) -> None:
    with pytest.raises(BodyError) as raised:
        accept("job_submit_req", "v0.0.44", {"job": job}, [])
    assert raised.value.field == field


def test_limits_go_out_and_come_back() -> None:
    limits: dict[str, Any] = dict.fromkeys(
        (
            "grp_jobs", "grp_submit_jobs", "grp_wall", "max_wall", "max_jobs_per_user", "max_submit_jobs_per_user",
            "max_jobs_per_account", "max_submit_jobs_per_account", "preempt_mode", "preempt_exempt_time",
        )
    )  # fmt: skip
    kinds = (
        "grp_tres", "grp_tres_mins", "grp_tres_run_mins", "max_tres_per_job", "max_tres_per_node",
        "max_tres_mins_per_job", "max_tres_per_user", "max_tres_per_account", "min_tres_per_job",
    )  # fmt: skip
    tres: dict[str, Any] = {kind: {} for kind in kinds}
    row = limits | tres | {
        "name": "fast", "description": "d", "priority": 7, "flags": ["DenyOnLimit"], "preempt": ["normal"],
        "grace_time": 30, "usage_factor": 2.0, "max_wall": 3600, "max_tres_per_user": {"cpu": 8, "gres/gpu": 2},
        "preempt_mode": "requeue", "max_jobs_per_user": 4,
    }  # fmt: skip
    record = qos_record("v0.0.44", row)
    assert record["flags"] == ["DENY_LIMIT"]
    assert record["id"] == stable_id("fast")
    back = qos_changes(accept("qos", "v0.0.44", record, []))
    assert back["max_tres_per_user"] == {"cpu": 8, "gres/gpu": 2}
    assert (back["flags"], back["preempt_mode"], back["preempt"]) == (["DenyOnLimit"], "requeue", ["normal"])
    # 时长读进来是分钟（QosValues 的数也是）；不限的是 None。
    assert (back["max_wall"], back["max_jobs_per_user"], back["grp_jobs"]) == (60, 4, None)


def test_what_is_not_set_is_not_changed() -> None:
    assert association_changes({"account": "a", "qos": [], "comment": "", "default": {"qos": ""}}) == {}


def test_addresses_find_their_operation() -> None:
    assert [each.path for each in find("slurm", "v0.0.44", "job/submit/")[0]] == ["job/submit"]
    known, argument = find("slurm", "v0.0.44", "job/12_3")
    assert ({each.method for each in known}, argument) == ({"GET", "POST", "DELETE"}, "12_3")
    assert find("slurm", "v0.0.40", "reservation")[0] == []
    assert find("slurm", "v0.0.44", "job/1/2/3")[1] == "1/2/3"
    assert find("slurm", "v0.0.44", "")[0] == []


def test_the_document_has_no_dangling_reference() -> None:
    found = document()
    known = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    assert references(found) <= known
    identifiers = [each["operationId"] for path in found["paths"].values() for each in path.values()]
    assert len(identifiers) == len(set(identifiers)) > 250


def test_what_a_job_description_tells_the_node_travels_in_its_environment() -> None:
    from scns_conductor.slurmrestd.job_description import job_fields, unused_hints

    given = {
        "rlimits": {
            "nofile": {"set": True, "infinite": False, "number": 512},
            "core": {"set": True, "infinite": True, "number": 0},
        },
        "get_user_environment": {"set": True, "infinite": False, "number": 1},
        "oom_kill_step": 1,
        "reserve_ports": 4,
        "flags": ["SPREAD_JOB", "USE_MIN_NODES", "GRES_ENFORCE_BIND"],
        "environment": ["A=b"],
    }
    job = job_fields(given)
    assert (job["spread_job"], job["use_min_nodes"]) == (True, True)
    assert job["environment"] == {
        "A": "b",
        "SLURM_RLIMIT_NOFILE": "U512",
        "SLURM_RLIMIT_CORE": f"U{2**64 - 1}",
        "SLURM_GET_USER_ENV": "1",
        "SLURM_OOM_KILL_STEP": "1",
        "SLURM_RESV_PORTS": "4",
        "SLURM_GRES_FLAGS": "enforce-binding",
    }
    assert unused_hints(given) == []
    assert unused_hints({"flags": ["STEPMGR_ENABLED"], "network": "x"}) == ["flags", "network"]
