"""数据表的模型就是迁移出来的结构，逐列逐型；statements 里的每条语句，数据库都认得它的表与列。"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from scns_conductor import migrations, statements
from scns_conductor.core.array_spec import TaskRange
from scns_conductor.core.database import sync_engine
from scns_conductor.core.job_reference import JobReference
from scns_conductor.core.models import JobStep, metadata
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import JobState
from scns_conductor.services.new_job import COLUMNS
from scns_conductor.statements.hot_statement import HotStatement
from scns_conductor.statements.job_detail import ATTEMPT, DETAIL, FIELDS, OUTPUT_PLACE, REASON, SCRIPT, SUMMARY
from scns_conductor.statements.job_list import EQUALS, SORT_KEYS, JobConditions, JobPage
from scns_conductor.statements.job_rows import COMPONENT, EXACT, SIBLINGS, TASKS, WHOLE, any_of
from scns_conductor.statements.retention import COPY_INTO_HISTORY


@pytest.fixture
def engine(empty_settings: Settings) -> Iterator[sa.Engine]:
    migrations.upgrade(empty_settings)
    found = sync_engine(empty_settings, lookups=False, limits=False, pooled=False)
    yield found
    found.dispose()


def test_the_models_are_the_migrated_schema(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        reflected = sa.MetaData()
        reflected.reflect(connection)
    for table in metadata.sorted_tables:
        stored = reflected.tables[table.name]
        # 逐列：名字、类型的写法、能不能空。
        assert _columns(table) == _columns(stored), table.name
        # Alembic 不比 CHECK：名字要都在。
        assert _checks(table) == _checks(stored), table.name


def test_indexes_of_jobs_come_and_gone_stay_compact(engine: sa.Engine) -> None:
    """新的作业总排在后面：页不对半分，索引不会一直是应有的两倍。"""
    arriving = """
        WITH j AS (
          INSERT INTO jobs (name, user_name, account, qos, partition, script, current_working_directory, state)
          SELECT 'n', 'u', 'a', 'q', 'p', '#!/bin/sh', '/', 'COMPLETED' FROM generate_series(1, 20) RETURNING job_id)
        INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, tasks)
        SELECT job_id, 0, 'n1', 0, 1, 0, 1 FROM j
    """
    names = [
        *(f"jobs_by_{what}" for what in ("state", "user", "account", "name", "partition", "qos")),
        "resource_allocations_by_node",
    ]
    sizes = sa.text("SELECT name, pg_relation_size(to_regclass(name)) FROM unnest(CAST(:names AS text[])) AS n(name)")
    with engine.begin() as connection:
        for _ in range(500):
            connection.exec_driver_sql(arriving)
        found = dict(connection.execute(sizes, {"names": names}).all())
        connection.exec_driver_sql("REINDEX TABLE jobs")
        connection.exec_driver_sql("REINDEX TABLE resource_allocations")
        compact = dict(connection.execute(sizes, {"names": names}).all())
    assert {name: size / compact[name] for name, size in found.items() if size > 1.5 * compact[name]} == {}


def test_indexes_of_the_history_stay_compact(engine: sa.Engine) -> None:
    """移进历史的也是新的在后面。"""
    ended = """
        WITH j AS (
          INSERT INTO jobs (name, user_name, account, qos, partition, script, current_working_directory,
            end_time, state)
          SELECT 'n', 'u', 'a', 'q', 'p', '#!/bin/sh', '/', now() + n * interval '1 microsecond', 'COMPLETED'
          FROM generate_series(1, 10000) AS n RETURNING job_id),
        a AS (
          INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, tasks)
          SELECT job_id, 0, 'n1', 0, 1, 0, 1 FROM j)
        SELECT job_id FROM j ORDER BY job_id
    """
    tables = ["jobs", "resource_allocations"]
    sizes = sa.text(
        "SELECT CAST(CAST(indexrelid AS regclass) AS text), pg_relation_size(indexrelid) FROM pg_index "
        "WHERE indrelid = ANY(CAST(:tables AS regclass[]))"
    )
    months = {"tables": [f"history.{table}_month" for table in tables]}
    copies = [each for table in tables for each in COPY_INTO_HISTORY if f"INTO history.{table} " in str(each)]
    with engine.begin() as connection:
        for table in tables:
            connection.exec_driver_sql(f"CREATE TABLE history.{table}_month PARTITION OF history.{table} DEFAULT")
        job_ids = connection.exec_driver_sql(ended).scalars().all()
        for first in range(0, len(job_ids), 20):
            for copy in copies:
                connection.execute(copy, {"job_ids": list(job_ids[first : first + 20])})
        found = dict(connection.execute(sizes, months).all())
        for name in months["tables"]:
            connection.exec_driver_sql(f"REINDEX TABLE {name}")
        compact = dict(connection.execute(sizes, months).all())
    assert len(found) >= 9
    assert {name: size / compact[name] for name, size in found.items() if size > 1.5 * compact[name]} == {}


def _columns(table: sa.Table) -> dict[str, tuple[str, bool | None]]:
    dialect = sa.dialects.postgresql.dialect()  # type: ignore[no-untyped-call]
    return {column.name: (column.type.compile(dialect), column.nullable) for column in table.columns}


def _checks(table: sa.Table) -> set[str]:
    return {str(each.name) for each in table.constraints if isinstance(each, sa.CheckConstraint)}


# 造语句的函数 -> 各组参数（位置，名字）。新写一个就要在这里给出例子。
_TASKS = (TaskRange(0, 4),)
_EVERYTHING = JobConditions(
    equals={key: ["x"] for key in EQUALS},
    partitions=["p"],
    partition_words=["p"],
    nodes=["n1"],
    references=[JobReference(1, None), JobReference(2, _TASKS), JobReference(3, component=1)],
    times=dict.fromkeys((f"{key}_{side}" for key in ("submit", "start", "end") for side in ("after", "before")), None),  # type: ignore[arg-type]
)
_NAMED = ((("x", {"name": "x"}), {}),)
_BY_NUMBER = (((1,), {}),)
_ROW = (((1, {"comment": "x"}), {}),)
SAMPLES: dict[str, Any] = {
    "account_insert": ((({"name": "x"},), {}),),
    "account_update": _NAMED,
    "accounts_delete": (((["x"],), {}),),
    "allocation_release": (((1, 0, 0), {"actor": "x"}),),
    "answer_insert": ((("x", {}), {}),),
    "association_delete": _BY_NUMBER,
    "association_insert": ((({"account": "x"},), {}),),
    "association_lock": _BY_NUMBER,
    "association_update": _ROW,
    "associations_of_user_delete": ((("x",), {}),),
    "events_insert": ((([1],), {"from_state": None, "to_state": "PENDING", "cause": "submit", "actor": "x"}),),
    "few_count": (((_EVERYTHING.sql()[0],), {}),),
    "inbox_insert": ((("jobs",), {"job_ids": [1]}),),
    "job_select": tuple(
        ((columns, where), {})
        for columns in (ATTEMPT, DETAIL, OUTPUT_PLACE, REASON, SCRIPT, SUMMARY)
        for where in (EXACT, TASKS, COMPONENT)
    ),
    "jobs_insert": (((COLUMNS,), {}),),
    "jobs_of": ((("*",), {}),),
    "jobs_page": tuple(
        ((JobPage(key, True, 10, list(FIELDS)[:90], rows), chosen, _EVERYTHING), {"few": few, "after": (None, 1)})
        for key in SORT_KEYS
        for rows, few, chosen in ((False, False, []), (True, True, list(JobState)))
    ),
    "jobs_select": ((([1],), {}),),
    "job_requirements_select": ((([1],), {}),),
    "jobs_update": ((([1], {"comment": "x"}), {}),),
    "lockers_of_row": ((("jobs",), {}),),
    "lockers": ((("jobs", "state = 'PENDING'"), {}),),
    "node_update": _NAMED,
    "nodes_delete": (((["x"],), {}),),
    "nodes_pin": (((["x"], {"weight": 1}), {}),),
    "nodes_insert": ((([{"name": "x", "address": "x", "cpus": 1, "memory": 1}],), {}),),
    "nodes_update": (((["x"], {"drain": True}), {}),),
    "notify_answer": ((("x",), {}),),
    "partition_delete": ((("x",), {}),),
    "partition_insert": ((({"name": "x"},), {}),),
    "partition_update": _NAMED,
    "pending_job": ((("*",), {}),),
    "pending_jobs": ((("*",), {}),),
    "qos_delete": ((("x",), {}),),
    "qos_insert": ((({"name": "x"},), {}),),
    "qos_lock": ((("x",), {}),),
    "qos_update": _NAMED,
    "reservation_delete": ((("x",), {}),),
    "reservation_insert": ((({"name": "x"},), {}),),
    "reservation_update": _NAMED,
    "rows_select": tuple(
        ((where,), {"lock": lock})
        for where in (EXACT, WHOLE, TASKS, SIBLINGS, any_of([0], components=True))
        for lock in (False, True)
    ),
    "usage_over_time": (((["account", "user"],), {}), (([],), {})),
    "step_insert": (((dict.fromkeys(JobStep.model_fields),), {}),),
    "user_update": _NAMED,
    "webhook_delete": _BY_NUMBER,
    "webhook_insert": ((({"url": "x"},), {}),),
    "webhook_update": (((1, {"url": "x"}), {}),),
}
# 写出语句的片段，或自己执行的：它们用的语句在别的名字里。
_NOT_STATEMENTS = {"json_of", "multirange_text", "tasks_condition", "task_of", "states", "leaving", "among", "starting",
                   "rows_text", "locked_nodes", "ids_text", "gres_changed", "tasks_values",
                   "release_allocations", "ending", "ending_values", "request_end", "new_incarnation", "shrink_values",
                   "change_incarnation", "template_text", "entries_text",
                    "any_of", "seat_bounds", "session_bounds", "spans", "decay_values", "archived", "columns_of",
                    "partition_of", "month_partitions", "drop_partitions", "month_contents", "incoming_table",
                    "keep_incoming", "hold_partitions", "command_entry"}  # fmt: skip
_BUILT = ("HotStatement", "TextClause", "Insert", "Update", "Delete", "Select", "str")
_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
# 没有这一列、这张表、这个函数，或写不成语句；参数的类型定不下来的不算。
_WRONG = {"42703", "42P01", "42883", "42601"}


def _modules() -> Iterator[Any]:
    for found in pkgutil.iter_modules(statements.__path__, f"{statements.__name__}."):
        yield importlib.import_module(found.name)


def _own(module: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if getattr(value, "__module__", module.__name__) == module.__name__ or not inspect.isroutine(value):
            yield f"{module.__name__.rpartition('.')[2]}.{name}", value


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """这个名字下的语句，写成 PREPARE 认得的。"""
    if isinstance(value, sa.sql.ClauseElement) and not isinstance(value, sa.sql.ColumnElement):
        dialect = sa.dialects.registry.load("postgresql.asyncpg")()
        yield name, str(value.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))
    elif isinstance(value, HotStatement):
        yield name, _numbered(value._text)
    elif isinstance(value, str) and "._" not in name:
        yield name, _numbered(value)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(f"{name}[{index}]", each)


def _numbered(text: str) -> str:
    """psycopg 的 %(名字)s -> $1、$2……"""
    names: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        return "%" if found[0] == "%%" else f"${names.setdefault(found[1], len(names) + 1)}"

    return re.sub(r"%\((\w+)\)s|%%", place, text)


def test_the_database_knows_every_statement(engine: sa.Engine) -> None:
    found: dict[str, str] = {}
    unknown = []
    for module in _modules():
        for name, value in _own(module):
            found.update(_texts(name, value))
            plain = name.partition(".")[2]
            if not inspect.isfunction(value) or plain.startswith("_") or plain in _NOT_STATEMENTS:
                continue
            if not re.search(rf"\b({'|'.join(_BUILT)})\b", str(inspect.signature(value).return_annotation)):
                continue
            # 没有参数的不必写例子。
            samples = SAMPLES.get(plain, () if inspect.signature(value).parameters else (((), {}),))
            if not samples:
                unknown.append(name)
            for index, (words, named) in enumerate(samples):
                made = value(*words, **named)
                found.update(_texts(f"{name}#{index}", made[0] if isinstance(made, tuple) else made))
    assert unknown == [], "给 SAMPLES 加上例子"
    prepared, wrong = 0, {}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        for name, text in found.items():
            if not text.strip().startswith(_VERBS):
                continue
            try:
                driver.execute(f"PREPARE probe AS {text}".encode())
                driver.execute(b"DEALLOCATE probe")
                prepared += 1
            except psycopg.Error as error:
                if error.sqlstate in _WRONG:
                    wrong[name] = str(error)
                else:
                    prepared += 1
    assert wrong == {}
    assert prepared > 150
