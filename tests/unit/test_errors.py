"""业务错误：从别的进程回来还是原来的那一个。"""

import pickle

import pytest

from scns_conductor.core.errors import ConductorError, FieldError, InvalidRequest, NotFound, TooManyRequests


@pytest.mark.parametrize(
    "error", [InvalidRequest("job.name", "太长"), NotFound("没有这个作业"), TooManyRequests("太多", retry_after_s=7)]
)
def test_an_error_comes_back_whole_from_another_process(error: ConductorError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == error.detail


def test_each_error_has_its_own_lists() -> None:
    first, second = ConductorError("一"), ConductorError("二")
    first.errors.append(FieldError("a", "b"))
    first.headers["X"] = "y"
    assert (second.errors, second.headers) == ([], {})
