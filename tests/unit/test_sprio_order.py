"""sprio -S：按列的字母排，数按大小，前面的为主。"""

from typing import Any

import pytest

from scns_conductor.slurm.queue.sprio import _sort
from scns_conductor.slurm.session import Fatal


def row(job_id: str, user: str, priority: float) -> dict[str, Any]:
    return {"job_id": job_id, "user_name": user, "priority": priority, "factors": {}, "weights": {}}


def test_the_letters_say_the_order() -> None:
    rows = [row("9", "bob", 100), row("10", "ann", 20), row("11", "bob", 20)]
    for order, expected in (
        ("", ["9", "10", "11"]), ("-i", ["11", "10", "9"]), ("Y", ["10", "11", "9"]), ("-Y,-i", ["9", "11", "10"]),
        ("u,+Y", ["10", "11", "9"]),
    ):  # fmt: skip
        found = list(rows)
        _sort(found, order)
        assert [each["job_id"] for each in found] == expected, order
    with pytest.raises(Fatal, match="Invalid sort specification: !"):
        _sort(rows, "!")
