"""跟着一个运行中的作业：SSE 事件的解析，断线后从断处接着读。"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class ServerEvent(NamedTuple):
    """一个 SSE 事件；data 是各 data 行以换行相连。"""

    name: str
    data: str

    def json(self) -> dict[str, Any]:
        """data 里的 JSON 对象；不是对象则为空。"""
        try:
            found = json.loads(self.data)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def output(self) -> bytes:
        """output 事件带的字节：{"base64": …} 或 {"text": …}。"""
        return self.output_part(0)[0]

    def output_part(self, offset: int) -> tuple[bytes, int]:
        """output 事件带的字节，与之后从哪里接着读：文件从头写过的，回到前面；没有写在哪里的，接着 offset。"""
        import base64  # 只有跟随输出用它：每个命令都装载这个文件

        found = self.json()
        if isinstance(found.get("base64"), str):
            data = base64.b64decode(found["base64"])
        else:
            data = str(found.get("text", "")).encode()
        start = found.get("offset")
        return data, (start if isinstance(start, int) else offset) + len(data)


class EventParser:
    """一行一行地解析 SSE（HTML 标准 §9.2.6）；注释行（心跳）跳过，没写完的最后一个事件丢掉。"""

    def __init__(self) -> None:
        self._name, self._data = "message", list[str]()

    def feed(self, raw: bytes) -> ServerEvent | None:
        """再来一行；写完了一个事件就返回它。"""
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            found = ServerEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "message", []
            return found
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None


def server_events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """从字节行解析出的各个事件。"""
    parser = EventParser()
    for line in lines:
        event = parser.feed(line)
        if event is not None:
            yield event
