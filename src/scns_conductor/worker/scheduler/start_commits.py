"""提交一个周期的启动：一条语句，一个事务；异构作业的各个部分一起启动或都不启动。"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from scns_conductor.statements.starts import Start, Started, commit_starts
from scns_conductor.worker.scheduler.session import one_by_one


def commit_groups(
    connection: Connection, epoch: int, starts: Sequence[Start], reservations: int | None = None
) -> list[Started]:
    """写下一批启动，返回真正成立的；异构作业少一个部分就整个不启动。在事务之外调用，错误与 commit_starts 相同。"""
    if all(start.het_job_id is None for start in starts):
        with one_by_one(connection), connection.begin():
            return commit_starts(connection, epoch, starts, reservations)
    left = list(range(len(starts)))
    while left:
        with connection.begin() as transaction:
            started = commit_starts(connection, epoch, [starts[index] for index in left], reservations)
            done = {left[row.index] for row in started}
            short = {starts[index].het_job_id for index in left if index not in done} - {None}
            if short.isdisjoint(starts[index].het_job_id for index in done):
                return [Started(left[row.index], row.job_id, row.restart_count) for row in started]
            transaction.rollback()
        # 少见：部分刚被取消、改过。放下这些，其余的再来一遍。
        left = [index for index in left if starts[index].het_job_id not in short]
    return []
