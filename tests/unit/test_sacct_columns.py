"""sacct 的各列取值时用到的字段都写在 needs 里：只取这些字段，显示的不变。"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from scns_conductor.core.models import Job
from scns_conductor.slurm.accounting.accounting_columns import DEFAULT_FORMAT, FIELDS, Field
from scns_conductor.slurm.accounting.sacct_table import chosen_fields, lines
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.table.columnar import Columnar

# 作业步的行另有的（见 step_values.accounting_row），不问服务器。
OWN = {"step", "step_tasks", "units", "read_bytes", "written_bytes"}
ALWAYS = {"job_id", "array_job_id", "array_task_id", "submit_time", "start_time", "end_time"}
WHOLE: dict[str, Any] = {
    **dict.fromkeys(Job.model_fields),
    "job_id": "7",
    "state": "PENDING",
    "name": "a",
    "user_name": "nobody",
    "partition": "normal",
    "current_working_directory": "/tmp",
    "tasks": 2,
    "cpus_per_task": 3,
    "minimum_nodes": 1,
    "submit_time": "2026-11-24T08:00:00+00:00",
}
STARTED = {"start_time": "2026-11-24T09:00:00+00:00", "allocated_cpus": 6, "allocated_nodes": 1, "allocated_memory": 64}
ENDED = {**STARTED, "end_time": "2026-11-24T10:00:00+00:00", "cpu_user_s": 1.5, "max_rss_kb": 9, "exit_status": 1}
ROWS = [
    WHOLE,
    {**WHOLE, "array_job_id": "7", "array_remaining": "3-5", "array_max_tasks": 2, "memory_per_cpu": 8},
    {**WHOLE, **STARTED, "state": "RUNNING", "memory_per_node": 64, "requested_end_state": "CANCELLED"},
    {**WHOLE, **STARTED, "state": "SUSPENDED", "suspend_time": "2026-11-24T09:30:00+00:00", "allocated_gres": "gpu:1"},
    {**WHOLE, **ENDED, "state": "FAILED", "array_job_id": "7", "array_task_id": 1, "time_limit": 60},
    {**WHOLE, **ENDED, "state": "CANCELLED", "units": "M", "memory_per_node": 64},
    {**WHOLE, **ENDED, "state": "COMPLETED", "step": "batch", "step_tasks": 1},
]


class Watched(Mapping[str, Any]):
    """记下读过哪些字段。"""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row, self.read = row, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self.row[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)


@pytest.mark.parametrize("field", [field for field in FIELDS.values() if field.needs is not None], ids=lambda f: f.name)
@pytest.mark.parametrize("cancelled_by", ["", "1"])
def test_a_column_reads_only_what_it_asks_for(field: Field, cancelled_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCNS_SACCT_CANCELLED_BY", cancelled_by)
    assert field.needs is not None
    asked = set(field.needs.split())
    assert asked <= set(Job.model_fields)
    for row in ROWS:
        # 步的、换了单位的，逐行取值；别的，needs 里的都相同就只算一次：那之外的一样也不能看。
        known = asked | OWN | (ALWAYS if row.keys() & {"step", "units"} else set())
        watched = Watched(row)
        expected = field.value(watched)
        assert watched.read <= known
        slim = {name: value for name, value in row.items() if name in known}
        assert field.value(slim) == expected


def test_the_default_format_knows_what_it_needs() -> None:
    assert all(FIELDS[name].needs is not None for name in DEFAULT_FORMAT.split(","))


@pytest.mark.parametrize("plain", [[], [("parsable2", "")]], ids=["padded", "plain"])
def test_a_table_is_the_same_column_by_column(plain: list[tuple[str, str]]) -> None:
    rows = [{**row, "job_id": str(number)} for number, row in enumerate(ROWS * 3) if not row.keys() & {"step", "units"}]
    chosen = chosen_fields([",".join(field.name for field in FIELDS.values() if field.needs is not None)])
    one_by_one = Parsed(plain, [])
    at_once = Parsed([*plain, ("allocations", "")], [])
    expected = lines(chosen, rows, one_by_one)
    assert len(expected) == len(rows) + (1 if plain else 2)
    assert lines(chosen, rows, at_once) == expected
    assert lines(chosen, Columnar({name: [row[name] for row in rows] for name in WHOLE}), at_once) == expected
