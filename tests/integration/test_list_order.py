"""按文字的列排序：沿索引走，与历史多长无关；翻页不重不漏。"""

import re

import psycopg
import pytest

from running_system import RunningSystem, database_url
from scns_conductor.statements.job_list import JobConditions, JobPage, jobs_page


@pytest.mark.parametrize("sort", ["name", "-name", "user_name", "-user_name", "state", "-state"])
def test_pages_follow_one_another(running_system: RunningSystem, sort: str) -> None:
    names = ["order-b", "order-a", "order-b", "order-c", "order-a", "order-b"]
    jobs = [running_system.submit("true", name=name, hold=True) for name in names]
    path = f"/jobs?sort={sort}&limit=2&name=order-a,order-b,order-c"
    found: list[dict[str, str]] = []
    cursor = ""
    while True:
        status, page = running_system.call("GET", path + cursor)
        assert status == 200, page
        found += page["jobs"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    key = sort.removeprefix("-")
    # 相同的新的在前；倒过来排就整个倒过来。
    expected = sorted(found, key=lambda job: (job[key], -int(job["job_id"])), reverse=sort.startswith("-"))
    assert [job["job_id"] for job in found] == [job["job_id"] for job in expected]
    listed = [job["job_id"] for job in found]
    assert len(listed) == len(set(listed))
    assert set(jobs) <= set(listed)
    for job in jobs:
        running_system.call("POST", f"/jobs/cancel/{job}")


@pytest.mark.parametrize("key", ["name", "user_name", "state", "job_id", "submit_time"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_no_listing_sorts_the_history(running_system: RunningSystem, key: str, descending: bool, later: bool) -> None:
    """每一段都沿索引取一页：规划器不许排序时，也没有一个要排的（合起来的一页除外）。"""
    value = {"submit_time": "2026-11-24T08:00:00+00:00"}.get(key, "PENDING")
    statement, values = jobs_page(
        JobPage(key, descending, 100, ["job_id"], rows=True),
        [],
        JobConditions(),
        few=False,
        after=(value, 5) if later else None,
    )
    text = re.sub(r"(?<!:):(\w+)", r"%(\1)s", statement.text.replace("%", "%%"))
    with psycopg.connect(database_url(running_system)) as database:
        # 移走的作业的分区也要沿索引取；没有分区的空表只会有一个什么也不排的 Sort。用完撤销。
        database.execute(
            "CREATE TABLE history.jobs_seen PARTITION OF history.jobs FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')"
        )
        for setting in ("enable_seqscan", "enable_sort", "enable_incremental_sort", "enable_bitmapscan"):
            database.execute(f"SET {setting} = off")
        plan = [row[0] for row in database.execute(f"EXPLAIN {text}", values).fetchall()]
        database.rollback()
    sorts = [line for line in plan if re.search(r"\bSort\b", line) and "Sort Key" not in line]
    assert len(sorts) <= (1 if later and key in ("name", "user_name", "state") else 0), "\n".join(plan)
