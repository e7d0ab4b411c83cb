"""接口回答的说明逐项就是数据表的模型：名字、含义、单位、类型；请求的也是。"""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

from scns_conductor.api.answers import accounting, cluster, jobs
from scns_conductor.api.job_request import JobRequest
from scns_conductor.core import models
from scns_conductor.core.models import UNITS, JobSpec, unit_of

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
# 回答 -> 它是哪张表的行；说明不同的字段（含义确实不同）。
ROWS: list[tuple[str, type[SQLModel], set[str]]] = [
    ("Job", models.Job, {"array_remaining", "script", "environment", "argv"}),
    ("Allocation", models.ResourceAllocation, set()),
    ("JobEvent", models.JobEvent, set()),
    ("JobStep", models.JobStep, set()),
    ("Node", models.Node, {"state"}),
    ("Partition", models.Partition, set()),
    ("Reservation", models.Reservation, set()),
    ("Account", models.Account, set()),
    ("User", models.User, set()),
    ("Association", models.Association, set()),
    ("Qos", models.Qos, set()),
]
# 名字是这样的一定是带单位的量。
MEASURED = ("_s", "_kb", "_bytes", "_mins", "time_limit", "grace_time", "max_wall", "grp_wall")
# 不给人看的列。
HIDDEN = {
    "Allocation": {"allocation_id", "job_id", "token_digest", "relay_chain"},
    "Job": {"array_listed"},
    "JobEvent": {"job_id"},
    "JobStep": {"launch", "samples"},
}


@pytest.mark.parametrize(("name", "model", "reworded"), ROWS, ids=[row[0] for row in ROWS])
def test_every_answer_field_is_the_models(name: str, model: type[SQLModel], reworded: set[str]) -> None:
    shown = SCHEMAS[name]["properties"]
    assert model.model_fields.keys() - shown.keys() == HIDDEN.get(name, set())
    for field, info in model.model_fields.items():
        if field not in shown:
            continue
        if field not in reworded:
            assert shown[field]["description"] == info.description, field
        assert shown[field].get("x-unit") == unit_of(info.description), field


@pytest.mark.parametrize("name", [name for name in JobSpec.model_fields if name not in ("user_name", "data_source")])
def test_every_job_field_can_be_asked_for(name: str) -> None:
    assert name in JobRequest.model_fields
    asked = JobRequest.model_fields[name]
    written = unit_of(JobSpec.model_fields[name].description)
    extra: Any = asked.json_schema_extra or {}
    # 时限照 Slurm：数字是分钟；别的与列的单位相同。
    assert extra.get("x-unit") == ("分钟" if name in ("time_limit", "time_minimum") else written)


@pytest.mark.parametrize("model", [row[1] for row in ROWS] + [models.SchedulerInbox, models.SchedulerLeader])
def test_every_column_says_what_it_is(model: type[SQLModel]) -> None:
    bare = [name for name, info in model.model_fields.items() if not info.description]
    assert bare == []
    # 带单位的量要写成能认出来的样子：（MiB）、（秒）……
    for name, info in model.model_fields.items():
        if "memory" in name or name.endswith(MEASURED):
            assert unit_of(info.description) in UNITS, f"{model.__name__}.{name}"


def test_the_documented_answers_are_the_ones_in_the_code() -> None:
    for module in (accounting, cluster, jobs):
        for name, found in vars(module).items():
            if isinstance(found, type) and name.isupper():
                assert SCHEMAS[found.__name__]["properties"].keys() == found.model_fields.keys()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "model", "written_only"),
    [
        ("PartitionValues", models.Partition, set()),
        ("AssociationValues", models.Association, set()),
        ("QosValues", models.Qos, set()),
        ("UserUpdate", models.User, set()),
        # 换算成节点与结束的时刻；账户的份额与上限写在它自己的关联里。
        ("ReservationValues", models.Reservation, {"duration", "node_count", "core_count"}),
        ("AccountValues", models.Account, set(models.Association.model_fields)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_be_changed_is_a_column(name: str, model: type[SQLModel], written_only: set[str]) -> None:
    shown = SCHEMAS[name]["properties"]
    assert shown.keys() - written_only <= model.model_fields.keys()
    for field in shown.keys() & model.model_fields.keys():
        unit = unit_of(model.model_fields[field].description)
        # 写了单位的，与列的相同；时限照 Slurm 是分钟。
        assert shown[field].get("x-unit", unit) in (unit, "分钟"), field
