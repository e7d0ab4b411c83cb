"""跟随作业的输出直到它结束：断线从断处接着读，字节不多不少。"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient
    from scns_conductor.client.output_calls import Stream

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0


def follow_output(
    client: "JsonClient",
    job_id: str,
    stream: "Stream",
    write: Callable[[bytes], None],
    on_state: Callable[[dict[str, Any]], None] = lambda _: None,
    *,
    offset: int = 0,
    patience_s: float = 60.0,
) -> None:
    """把输出逐段交给 write，直到作业结束；on_state 收到每次状态变化。

    服务器重启或连接断了会从已读的字节数接着读；连续 patience_s 秒连不上抛 Unreachable。
    """
    from scns_conductor.client import Problem, Unreachable

    pause_s = FIRST_PAUSE_S
    failing_since: float | None = None
    while True:
        try:
            for event in client.follow(job_id, stream, offset=offset):
                pause_s, failing_since = FIRST_PAUSE_S, None
                if event.name == "output":
                    data, offset = event.output_part(offset)
                    write(data)
                elif event.name == "state":
                    on_state(event.json())
            return
        except (Unreachable, Problem) as error:
            if isinstance(error, Problem) and error.status not in (502, 503, 504):
                raise
            # 久没有输出也会断（读超时）：从第一次没接上算起，不是从上一次有输出算起。
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > patience_s:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, LAST_PAUSE_S)
