"""系统真的回答的字段，就是接口说明里写的：一个不多，一个不少，类型也对。"""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from running_system import RunningSystem

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())


@pytest.fixture(scope="module")
def job_id(running_system: RunningSystem) -> str:
    job_id = running_system.submit("#!/bin/bash\ntrue\n", name="answers", comment="x")
    running_system.wait_state(job_id)
    return job_id


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/jobs/{job_id}", "Job"),
        ("/jobs?job_id={job_id}", "JobPage"),
        ("/jobs/{job_id}/events", "JobEvents"),
        ("/jobs/{job_id}/why", "Why"),
        ("/jobs/steps?job_id={job_id}", "JobSteps"),
        ("/nodes", "Nodes"),
        ("/partitions", "Partitions"),
        ("/reservations", "Reservations"),
        ("/licenses", "Licenses"),
        ("/dashboard", "Dashboard"),
        ("/reports/usage?since=now-1hour", "Usage"),
        ("/accounts", "Accounts"),
        ("/users", "Users"),
        ("/associations", "Associations"),
        ("/qos", "QosPage"),
        ("/priorities", "Priorities"),
        ("/shares", "Shares"),
    ],
)
def test_the_answer_has_the_documented_fields(running_system: RunningSystem, job_id: str, path: str, name: str) -> None:
    status, found = running_system.call("GET", path.format(job_id=job_id))
    assert status == 200
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(found)
    assert unknown(found, {"$ref": f"#/components/schemas/{name}"}) == set()


def test_a_plan_has_the_documented_fields(running_system: RunningSystem) -> None:
    status, found = running_system.call("POST", "/jobs/plan", {"job": {}, "script": "true\n"})
    assert status == 200
    assert unknown(found, {"$ref": "#/components/schemas/Plan"}) == set()


def unknown(found: Any, schema: dict[str, Any], at: str = "") -> set[str]:
    """回答里有、说明里没有的字段。"""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(found, list):
        kinds = [schema, *schema.get("anyOf", [])]
        items = next((each["items"] for each in kinds if "items" in each), {})
        return {each for item in found for each in unknown(item, items, f"{at}[]")}
    if isinstance(found, dict) and "properties" in schema:
        extra = {f"{at}.{key}" for key in found.keys() - schema["properties"].keys()}
        return extra.union(*(unknown(found[key], schema["properties"].get(key, {}), f"{at}.{key}") for key in found))
    return set()
