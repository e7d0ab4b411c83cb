"""数组的进度：各状态的任务数。"""

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.reports import ArrayProgress
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.states import TERMINAL_STATES, JobState
from scns_conductor.statements.array_tasks import ARRAY_COUNTS

MOST_ARRAYS = 1000


async def array_progress(engine: AsyncEngine, text: str) -> list[ArrayProgress]:
    """text 是逗号分隔的作业号；写错抛 InvalidRequest。"""
    words = [word.strip() for word in text.split(",")]
    if len(words) > MOST_ARRAYS or not all(word.isascii() and word.isdecimal() and len(word) < 19 for word in words):
        raise InvalidRequest("job_id", f"应是逗号分隔的作业号，如 12,13，至多 {MOST_ARRAYS} 个")
    async with engine.connect() as connection:
        rows = (await connection.execute(ARRAY_COUNTS, {"job_ids": [int(word) for word in words]})).all()
    found: dict[int, ArrayProgress] = {}
    for row in rows:
        entry = found.setdefault(
            row.array_job_id, {"job_id": str(row.array_job_id), "total": 0, "done": 0, "by_state": {}}
        )
        entry["by_state"][row.state] = int(row.tasks)
        entry["total"] += int(row.tasks)
        if JobState(row.state) in TERMINAL_STATES:
            entry["done"] += int(row.tasks)
    return list(found.values())
