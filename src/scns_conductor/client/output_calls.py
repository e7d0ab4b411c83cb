"""作业的输出：取一段，或边写边读。"""

from collections.abc import Generator
from typing import Any, Literal

from scns_conductor.client.flow import OUTAGE_S, Effect, Emit, Line, Listen, Patience, streamed
from scns_conductor.client.job_calls import JobId
from scns_conductor.client.job_follow import EventParser, ServerEvent
from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.request import Request, plain, segment

Stream = Literal["stdout", "stderr"]


class OutputCalls:
    """标准输出与标准错误。"""

    @plain
    def output(
        self,
        job_id: JobId,
        stream: Stream = "stdout",
        *,
        offset: int | None = None,
        length: int | None = None,
        tail: int | None = None,
    ) -> "Request[bytes]":
        """输出的字节：从 offset 起 length 个，或末尾 tail 个；都不给是全部。"""
        query = {"offset": offset, "length": length, "tail": tail}
        return Request("GET", _log(job_id, stream), query=query, read=lambda answer: answer.body)

    @streamed
    def follow(
        self, job_id: JobId, stream: Stream = "stdout", *, offset: int = 0, timeout_s: float = 60.0
    ) -> Generator[Effect | Emit[ServerEvent], Any, None]:
        """边写边读：output、state、end 事件；收到 end 之前断了抛 Unreachable，可从已读的字节数接着 follow。"""
        coming = yield Listen(_log(job_id, stream), {"follow": True, "offset": offset or None}, timeout_s)
        parser = EventParser()
        while (line := (yield Line(coming))) is not None:
            event = parser.feed(line)
            if event is None:
                continue
            if event.name == "error":
                found = event.json()
                raise Problem(503, str(found.get("code", "error")), str(found.get("detail", "服务器读不到输出")))
            yield Emit(event)
            if event.name == "end":
                return
        raise Unreachable("跟随输出的连接断了")

    @streamed
    def tail(
        self, job_id: JobId, stream: Stream = "stdout", *, offset: int = 0, timeout_s: float = 60.0
    ) -> Generator[Effect | Emit[bytes], Any, None]:
        """边写边读，直到作业结束，交出一块一块的字节；连接断了从断处接着，一个字节不漏、不重。

        文件清空过、重新排队之后从头写的，接着交出的也从头起。
        服务器连着不在超过 OUTAGE_S 秒才抛 Unreachable。
        """
        patience = Patience(OUTAGE_S)
        while True:
            try:
                flow = OutputCalls.follow.function(self, job_id, stream, offset=offset, timeout_s=timeout_s)
                for_sending: Any = None
                while True:
                    effect = flow.send(for_sending)
                    if not isinstance(effect, Emit):
                        for_sending = yield effect
                        continue
                    for_sending = None
                    patience.good()
                    if effect.value.name == "output":
                        data, offset = effect.value.output_part(offset)
                        yield Emit(data)
            except StopIteration:
                return
            except (Unreachable, Problem) as error:
                yield patience.bad(error)


def _log(job_id: JobId, stream: Stream) -> str:
    return f"/jobs/{segment(job_id)}/logs/{stream}"
