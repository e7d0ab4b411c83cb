"""写新作业时不送与缺省相同的列，所以两处的缺省值必须是同一个：SQLModel 的与表的。"""

import pytest
import sqlalchemy as sa

from scns_conductor.core.models import Job
from scns_conductor.services.new_job import COLUMNS, DEFAULTS
from scns_conductor.statements.job_insert import jobs_insert

_AS_SQL = {True: "true", False: "false"}


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_the_table_and_the_model_have_the_same_default(name: str) -> None:
    value, column = DEFAULTS[name], sa.inspect(Job).columns[name]
    stored = column.server_default
    if value is None:
        assert stored is None
        assert column.nullable
        return
    assert isinstance(stored, sa.DefaultClause)
    text = str(stored.arg).split("::")[0].strip("'")
    assert text == ("{}" if value in ([], {}) else _AS_SQL[value] if isinstance(value, bool) else str(value))


def test_every_column_of_a_new_job_can_be_sent() -> None:
    text = jobs_insert(COLUMNS)
    assert all(f'"{name}"' in text for name in COLUMNS)
