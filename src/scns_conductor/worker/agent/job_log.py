"""读运行中作业的输出：API 与节点不共享文件系统时，经总线来问，答案写进数据库。以作业用户的身份读。"""

import base64
import logging
import os

from sqlalchemy.engine import Engine

from scns_conductor.core.answers.output import OutputRead, OutputRefused
from scns_conductor.core.output_path import OutputFields, job_output_paths, left_by_others, output_mode
from scns_conductor.core.states import TERMINAL_STATES
from scns_conductor.statements.answers import answer_insert, notify_answer
from scns_conductor.statements.node_jobs import OUTPUT_ON_NODE
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.host.user_files import read_range
from scns_conductor.worker.wire.bus_messages import ReadLog

MAX_READ_BYTES = 1024**2

logger = logging.getLogger(__name__)


def answer_read_log(engine: Engine, context: LaunchContext, asked: ReadLog) -> None:
    """读一段，写下回答。"""
    answer = _read(engine, context, asked)
    with engine.begin() as connection:
        connection.execute(answer_insert(asked.request_id, answer))
        connection.execute(notify_answer(asked.request_id))


def _read(engine: Engine, context: LaunchContext, asked: ReadLog) -> OutputRead | OutputRefused:
    with engine.begin() as connection:
        job = connection.execute(OUTPUT_ON_NODE, {"job_id": asked.job_id}).one_or_none()
    if job is None or job.interactive:
        return {"code": "no_output", "error": "这个作业没有输出文件"}
    fields = OutputFields(
        job_id=job.job_id,
        job_name=job.name,
        user_name=job.user_name,
        node_name=context.node.node_name,
        array_job_id=job.array_job_id,
        array_task_id=job.array_task_id,
        restart_count=job.restart_count,
    )
    stdout, stderr = job_output_paths(job.standard_output, job.standard_error, fields, job.current_working_directory)
    path = stdout if asked.stream == "stdout" else stderr or stdout
    offset, length = asked.offset_bytes, min(asked.length_bytes or MAX_READ_BYTES, MAX_READ_BYTES)
    try:
        login = context.login(job.user_name)
        switch = login.uid != os.geteuid()
        data, total, modified_s = read_range(
            path,
            offset,
            length,
            uid=login.uid if switch else None,
            gid=login.gid if switch else None,
            groups=login.groups if switch else None,
        )
    except FileNotFoundError:
        return {"code": "not_yet", "error": f"{path} 还不存在", "path": path}
    except (OSError, LaunchRefused) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return {"code": "unreadable", "error": f"读不了 {path}：{reason}", "path": path}
    mode = output_mode(job.open_mode, job.restart_count)
    if job.state not in TERMINAL_STATES and left_by_others(modified_s, mode, job.claimed_s, running=job.running):
        return {"code": "not_yet", "error": f"{path} 里还是从前的内容", "path": path}
    start = max(0, total + offset) if offset < 0 else offset
    return {"data": base64.b64encode(data).decode(), "total": total, "offset": start, "path": path}
