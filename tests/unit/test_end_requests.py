"""请求结束：去处由转移表核对，六处要求都是同一种写法。"""

import pytest
import sqlalchemy as sa

from scns_conductor.core.states import JobState
from scns_conductor.statements import end_requests
from scns_conductor.statements.conditions import leaving
from scns_conductor.statements.end_requests import allocation_release, request_end

STATEMENTS = {
    name: str(value)
    for name, value in {
        **{name: value for name, value in vars(end_requests).items() if isinstance(value, sa.TextClause)},
        "allocation_release": allocation_release(1, 0, 0, actor="alice"),
    }.items()
}


def test_a_request_for_a_transition_that_is_not_in_the_table_is_no_statement() -> None:
    with pytest.raises(ValueError, match="RUNNING"):
        request_end(JobState.RUNNING, which="true")
    with pytest.raises(ValueError, match="PENDING → SUSPENDED"):
        leaving({JobState.PENDING}, to={JobState.SUSPENDED})


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_every_request_asks_only_jobs_that_hold_resources_and_overrides_none_but_by_cancelling(name: str) -> None:
    text = STATEMENTS[name]
    assert "j.state IN ('RUNNING', 'SUSPENDED')" in text
    unchanged = "requested_end_state IS DISTINCT FROM 'CANCELLED'" if name == "CANCEL_ACTIVE" else "IS NULL"
    assert unchanged in text


@pytest.mark.parametrize(("exit_status", "state"), [(0, "COMPLETED"), (3, "FAILED")])
def test_what_a_released_allocation_ends_as(exit_status: int, state: str) -> None:
    assert f"requested_end_state = '{state}'" in str(allocation_release(1, 0, exit_status, actor="alice"))
