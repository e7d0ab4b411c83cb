"""作业的输出：单用户模式直接读文件；否则请节点以作业用户的身份读；都不行时给数据库里存的尾部。"""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.output_path import OutputFields, job_output_paths, left_by_others, output_mode
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import TERMINAL_STATES
from scns_conductor.core.tokens import Identity
from scns_conductor.services.answers import AnswerDesk, AnswerTimeout
from scns_conductor.services.job_queries import read_job, require_reader
from scns_conductor.services.output_files import OutputFiles, OutputRange
from scns_conductor.statements.job_detail import OUTPUT_PLACE, STORED_OUTPUT

MAX_READ_BYTES = 1024**2
FOLLOW_PAUSE_S = (0.1, 1.0)
NODE_ANSWER_WAIT_S = 5.0


class OutputReader:
    """读作业的输出。"""

    def __init__(self, engine: AsyncEngine, settings: Settings, desk: AnswerDesk) -> None:
        self._engine = engine
        self._settings = settings
        self._desk = desk
        self._files = OutputFiles()

    async def read(
        self, identity: Identity, job_id: str, stream: str, offset: int = 0, length: int = MAX_READ_BYTES
    ) -> OutputRange:
        """offset 为负从末尾倒数；至多 length 与 MAX_READ_BYTES 字节。还没有输出时是空的。"""
        job = await read_job(self._engine, job_id, OUTPUT_PLACE)
        require_reader(identity, job, "输出", job_id)
        return await self._read(job, stream, offset, min(length, MAX_READ_BYTES)) or OutputRange(b"", 0, 0)

    async def _read(self, job: Any, stream: str, offset: int, length: int) -> OutputRange | None:
        """读一段；没有输出、还没有打开、读不到是 None。"""
        if job["batch_host"] is None or job["interactive"]:
            return None
        ended = job["state"] in TERMINAL_STATES
        # 运行它的节点也是单用户的，才是自己的文件；多用户节点上的作业由节点以作业用户的身份读。
        if self._settings.single_user and job["own_node"]:
            found = await self._files.read(self._path(job, stream), offset, length)
            if found is not None:
                mode = output_mode(job["open_mode"], job["restart_count"])
                if not ended and left_by_others(found.modified_s, mode, job["claimed_s"], running=job["running"]):
                    return None
                return found
        stored = await self._stored(job, stream) if ended else None
        if stored is not None:
            start = offset if offset >= 0 else max(0, stored.total + offset)
            if start >= stored.offset:
                return OutputRange(
                    stored.data[start - stored.offset :][:length], min(start, stored.total), stored.total
                )
        try:
            answer = await self._desk.ask(
                "read_log",
                job_ids=[job["job_id"]],
                payload={"job_id": job["job_id"], "stream": stream, "offset": offset, "length": length},
                wait_s=NODE_ANSWER_WAIT_S,
            )
        except AnswerTimeout:
            if not ended:
                raise
            answer = {}
        if "data" in answer:
            return OutputRange(base64.b64decode(answer["data"]), int(answer["offset"]), int(answer["total"]))
        # 节点没有这个文件，或不再答话：尾部是能给的全部。
        return stored

    async def _stored(self, job: Any, stream: str) -> OutputRange | None:
        values = {"job_id": job["job_id"], "restart_count": job["restart_count"], "stream": stream}
        async with self._engine.connect() as connection:
            row = (await connection.execute(STORED_OUTPUT, values)).one_or_none()
        if row is None:
            return None
        return OutputRange(row.content, row.total_bytes - len(row.content), row.total_bytes)

    def _path(self, job: Any, stream: str) -> str:
        fields = OutputFields(
            job_id=job["job_id"],
            job_name=job["name"],
            user_name=job["user_name"],
            node_name=job["batch_host"],
            array_job_id=job["array_job_id"],
            array_task_id=job["array_task_id"],
            restart_count=job["restart_count"],
        )
        stdout, stderr = job_output_paths(
            job["standard_output"], job["standard_error"], fields, job["current_working_directory"]
        )
        return stdout if stream == "stdout" else stderr or stdout

    async def follow(
        self, identity: Identity, job_id: str, stream: str, offset: int = 0
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """边写边读：("output", {base64, offset})、("state", {state})、最后 ("end", {state, exit_code})。

        文件变短了（脚本自己清空了它），或重新排队之后从头写，就从头再给：offset 回到 0。
        """
        state, pause_s = "", FOLLOW_PAUSE_S[0]
        attempt: int | None = None
        longest = 0
        while True:
            # 先看状态再读：看到结束之后读到的就是全部。
            job = await read_job(self._engine, job_id, OUTPUT_PLACE)
            require_reader(identity, job, "输出", job_id)
            if job["state"] != state:
                state = job["state"]
                yield "state", {"job_id": job_id, "state": state}
            ended = state in TERMINAL_STATES
            again = attempt is not None and attempt != job["restart_count"]
            attempt = job["restart_count"]
            if again and output_mode(job["open_mode"], job["restart_count"]) == "truncate":
                offset = longest = 0
            while True:
                try:
                    found = await self._read(job, stream, offset, MAX_READ_BYTES)
                except AnswerTimeout:
                    break
                if found is None:
                    break
                if found.total < longest:
                    offset = longest = 0
                    continue
                longest = found.total
                if not found.data:
                    break
                yield "output", {"base64": base64.b64encode(found.data).decode(), "offset": found.offset}
                offset, pause_s = found.offset + len(found.data), FOLLOW_PAUSE_S[0]
            if ended:
                code = None if job["exit_status"] is None else f"{job['exit_status']}:{job['exit_signal'] or 0}"
                yield "end", {"job_id": job_id, "state": state, "exit_code": code}
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, FOLLOW_PAUSE_S[1])
