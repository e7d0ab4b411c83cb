"""squeue 的列只取要用到的字段：少取一个，十万行的 squeue 就会读不到它。"""

import time

import pytest

from scns_conductor.slurm.queue.job_dependencies import dependency_text
from scns_conductor.slurm.queue.job_json import job_record, job_record_39
from scns_conductor.slurm.queue.queue_columns import LETTERS, NAMES
from scns_conductor.slurm.queue.queue_filter import asked_tasks
from scns_conductor.slurm.table.columnar import Columnar, column, once, ordered
from scns_conductor.slurm.table.columns import Field, letters, table
from scns_conductor.slurm.table.job_values import array_tasks, dependency, display_id

PENDING = {
    "job_id": "12", "array_job_id": "12", "array_task_id": None, "array_remaining": "1,3,5,7,9", "array_max_tasks": 3,
    "het_job_id": None, "het_job_offset": 0, "het_job_id_set": None, "contiguous": False, "configuring": False,
    "sockets_per_node": None, "cores_per_socket": None, "threads_per_core": None, "tasks_per_core": None,
    "tasks_per_socket": None, "core_specification": None, "thread_specification": None, "prefer": None,
    "container": None, "container_image": None,
    "name": "arr", "user_name": "root", "account": None, "partition": "main", "qos": None, "reservation": None,
    "wckey": None, "state": "PENDING", "reason": "Resources", "error_msg": None, "restart_count": 0, "revision": 0,
    "submit_time": "2026-11-25T10:00:00+00:00", "eligible_time": None, "start_time": None, "end_time": None,
    "suspend_time": None, "suspended_s": 0, "expected_start_time": None, "expected_nodes": None,
    "exit_status": None, "exit_signal": None,
    "derived_exit_status": None, "node_list": None, "batch_host": None, "allocated_nodes": 0, "allocated_cpus": 0,
    "allocated_memory": 0, "allocated_gres": None, "current_working_directory": "/tmp", "standard_input": None,
    "standard_output": None, "standard_error": None, "tasks": 2, "tasks_per_node": None, "cpus_per_task": 1,
    "minimum_nodes": 1, "maximum_nodes": None, "minimum_cpus_per_node": None, "memory_per_node": 100,
    "memory_per_cpu": None, "memory_per_gpu": None, "temporary_disk_per_node": None, "tres_per_job": None,
    "tres_per_node": None, "tres_per_task": None, "constraints": None, "required_nodes": None,
    "excluded_nodes": None, "exclusive": False, "exclusive_to": None, "oversubscribe": False, "licenses": None,
    "required_switches": None,
    "time_limit": None, "time_minimum": None, "begin_time": None, "deadline": None, "dependency": "afterok:3:4",
    "kill_on_invalid_dependency": None, "hold": None, "priority": None, "nice": 0, "requeue": True, "comment": None,
    "admin_comment": None, "extra": None, "mail_type": None, "mail_user": None, "interactive": False,
    "submit_host": "login", "data_source": "CLI", "command": "/home/me/a.sh",
}  # fmt: skip
RUNNING = {
    **PENDING, "array_job_id": None, "array_remaining": None, "array_max_tasks": None, "state": "RUNNING",
    "reason": "None", "start_time": "2026-11-25T10:01:00+00:00", "node_list": "n[1-2]", "batch_host": "n1",
    "allocated_nodes": 2, "allocated_cpus": 4, "allocated_memory": 200, "allocated_gres": "gpu:2",
    "time_limit": 3600, "dependency": None, "end_time": "2026-11-25T10:02:00+00:00",
}  # fmt: skip


@pytest.mark.parametrize("job", [PENDING, RUNNING], ids=["pending", "running"])
@pytest.mark.parametrize(("name", "field"), [*LETTERS.items(), *NAMES.items()], ids=[*LETTERS, *NAMES])
def test_a_column_reads_only_the_fields_it_declares(name: str, field: Field, job: dict[str, object]) -> None:
    fetched = {key: job[key] for key in field.needs.split()}
    assert field.value(fetched) == field.value(job)


def test_an_array_with_a_step_is_listed_task_by_task_as_slurm_does() -> None:
    assert array_tasks(PENDING) == "1,3,5,7,9%3"
    assert table(letters("squeue", "%i", LETTERS), [PENDING]) == ["JOBID", "12_[1,3,5,7,9%3]"]
    # 步长不一的几项从小到大，连着的并成区间，两项里都有的只列一次；百万个的也不慢。
    assert array_tasks({**PENDING, "array_remaining": "0-15:3,7-30:5"}) == "0,3,6-7,9,12,15,17,22,27%3"
    long = array_tasks({**PENDING, "array_remaining": "0-999999:3,7-1999997:5"})
    assert long is not None
    assert (long[:16], long[-6:], len(long) < 70_000) == ("0,3,6-7,9,12,15,", ",...%3", True)


def test_a_task_asked_for_by_its_number_is_found_in_any_array() -> None:
    """squeue -j 12_5：等步长的、步长不一的也按任务号，不按序号。"""
    stepped = {**PENDING, "array_remaining": "4-22:3"}
    assert [job["array_task_id"] for job in asked_tasks(stepped, ["12_10", "12_[5-8]", "12_11"])] == [7, 10]
    mixed = {**PENDING, "array_remaining": "0-30000:3,7-60000:5"}
    assert [job["array_task_id"] for job in asked_tasks(mixed, ["12_[0-10:2]", "12_7"])] == [0, 6, 7]
    assert asked_tasks(mixed, ["12_8"]) == []
    assert asked_tasks(mixed, ["12"]) == [mixed]


def test_all_is_every_letter_between_bars() -> None:
    header = table(letters("squeue", "%all", LETTERS), [PENDING])[0]
    assert header.startswith("ACCOUNT|TRES_PER_NODE|MIN_CPUS|")
    assert header.count("|") == len(LETTERS) - 1


def test_unmet_dependencies_are_marked_and_met_ones_disappear() -> None:
    assert dependency(PENDING) == "afterok:3(unfulfilled),afterok:4(unfulfilled)"
    assert dependency({**PENDING, "dependency": "singleton"}) == "singleton(unfulfilled)"
    done, failed, waiting = ({"state": word, "start_time": None} for word in ("COMPLETED", "FAILED", "PENDING"))
    states = {"3": [done], "4": [failed], "5": [waiting]}
    assert dependency_text("afterok:3:4", states) == "afterok:4(failed)"
    assert dependency_text("afterok:3?afternotok:4", states) is None
    assert dependency_text("afterany:4:5", states) == "afterany:5(unfulfilled)"
    # after:6+5：开始之后过了五分钟才算。
    begun = {"6": [{"state": "RUNNING", "start_time": time.time() - 120}]}
    assert dependency_text("after:6", begun) is None
    assert dependency_text("after:6+1", begun) is None
    assert dependency_text("after:6+5", begun) == "after:6+5(unfulfilled)"


def test_json_has_unix_times_minutes_and_wait_statuses() -> None:
    record = job_record({**RUNNING, "state": "FAILED", "exit_status": 3, "exit_signal": 0})
    assert (record["start_time"], record["time_limit"], record["exit_code"]) == (1795600860, 60, 3 << 8)
    assert record["job_resources"]["allocated_nodes"][1]["nodename"] == "n2"
    assert record["tres_alloc_str"] == "cpu=4,mem=200M,node=2,billing=4,gres/gpu=2"
    assert job_record(PENDING)["array_task_string"] == "1,3,5,7,9%3"


def test_the_newer_json_wraps_numbers_that_may_be_unset_or_infinite() -> None:
    record = job_record_39(PENDING)
    assert record["time_limit"] == {"set": False, "infinite": True, "number": 0}
    assert record["array_task_id"] == {"set": False, "infinite": False, "number": 0}
    assert record["cpus"] == {"set": True, "infinite": False, "number": 2}


@pytest.mark.parametrize(
    ("remaining", "shown"),
    [
        ("0-99", "12_[0-99]"),
        ("1-9:2", "12_[1,3,5,7,9]"),
        ("1-13:4", "12_[1-13:4]"),
        ("4-7:3,13,22", "12_[4,7,13,22]"),
        ("0-999999:3", "12_[0-999999:3]"),
    ],
)
def test_a_stepped_array_is_written_as_slurm_writes_it(remaining: str, shown: str) -> None:
    job = {"job_id": "12", "array_job_id": "12", "array_task_id": None, "array_remaining": remaining}
    assert display_id(job) == shown


def test_columns_of_values_show_what_rows_show() -> None:
    """一列一列放着的与一行一行的，排过、没有排过，每一种列都印得一样。"""
    rows = [{**(PENDING, RUNNING)[number % 2], "job_id": str(number), "name": f"n{number % 3}"} for number in range(40)]
    rows[7] = {**rows[7], "exclusive": True}
    columnar = Columnar({name: [row[name] for row in rows] for name in rows[0]})
    backwards = list(range(len(rows)))[::-1]
    for form in ("%all", "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"):
        columns = letters("squeue", form, LETTERS)
        assert table(columns, columnar) == table(columns, rows)
        assert table(columns, columnar.ordered(backwards)) == table(columns, rows[::-1])
    assert list(columnar) == rows
    assert ordered(columnar, list(range(len(rows)))) is columnar
    nothing = Columnar.gathered([])
    assert table(letters("squeue", "%i %t", LETTERS), nothing, header=False) == column(nothing, "job_id") == []


def test_a_job_that_ended_between_two_questions_is_listed_once() -> None:
    """先问活着的，再问刚结束的；其间结束的两次都在，留先问到的。一列一列的与一行一行的一样。"""
    rows = [
        {**RUNNING, "job_id": "8", "state": "RUNNING"},
        {**RUNNING, "job_id": "7", "state": "PENDING"},
        {**RUNNING, "job_id": "8", "state": "COMPLETED"},
        {**RUNNING, "job_id": "6", "state": "FAILED"},
    ]
    by_columns = Columnar({name: [row[name] for row in rows] for name in RUNNING})
    for found in (once(rows, "job_id"), once(by_columns, "job_id")):
        assert len(found) == 3
        assert [(row["job_id"], row["state"]) for row in found] == [("8", "RUNNING"), ("7", "PENDING"), ("6", "FAILED")]
        # 都相同的一列也跟着短了；再排一遍也是。
        assert column(found, "user_name") == ["root"] * 3
        again = ordered(found, [2, 0, 1])
        assert column(again, "job_id") == ["6", "8", "7"]
        assert table(letters("squeue", "%i %u %t", LETTERS), again)[1:] == ["6 root F", "8 root R", "7 root PD"]
