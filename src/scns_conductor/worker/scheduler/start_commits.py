"""提交一个周期的启动：平常的一条语句，各个异构作业自成一个事务，部分一起启动或都不启动。"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from scns_conductor.statements.starts import Start, Started, commit_starts
from scns_conductor.worker.scheduler.session import one_by_one


def commit_groups(
    connection: Connection, epoch: int, starts: Sequence[Start], reservations: int | None = None
) -> list[Started]:
    """写下一批启动，返回真正成立的；各个异构作业自成一个事务，少一个部分就整个作废。在事务之外调用。

    别的错与 commit_starts 相同。
    """
    alone = [index for index, start in enumerate(starts) if start.het_job_id is None]
    groups: dict[int, list[int]] = {}
    for index, start in enumerate(starts):
        if start.het_job_id is not None:
            groups.setdefault(start.het_job_id, []).append(index)
    found: list[Started] = []
    for indexes in groups.values():
        with connection.begin() as transaction:
            started = commit_starts(connection, epoch, [starts[index] for index in indexes], reservations)
            if len(started) < len(indexes):
                transaction.rollback()
                continue
        found += [Started(indexes[row.index], row.job_id, row.restart_count) for row in started]
    if alone:
        with one_by_one(connection), connection.begin():
            started = commit_starts(connection, epoch, [starts[index] for index in alone], reservations)
        found += [Started(alone[row.index], row.job_id, row.restart_count) for row in started]
    return sorted(found, key=lambda row: row.index)
