"""收件箱里的请求，转成给节点的消息。"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.statements.inbox import FORWARD_TARGETS
from scns_conductor.worker.bus import Message

# 收件箱里要转给节点的请求；取消也只是提示，代理自己读数据库里的要求。
FORWARDED = frozenset(
    {
        *("cancel", "kill", "suspend", "resume", "requeue", "update", "signal", "read_log", "sample"),
        *("launch_step", "signal_step", "limit_step", "attach_step"),
    }
)


def messages_for(connection: Connection, requests: Sequence[Mapping[str, Any]]) -> dict[str, list[Message]]:
    """把一批请求转给作业所在的节点：找节点只要一条语句，紧接着的同样的请求并成一条消息。"""
    if not requests:
        return {}
    asked = [
        (place, job_id, request["kind"] == "read_log")
        for place, request in enumerate(requests)
        if not request["node_names"]
        for job_id in request["job_ids"]
    ]
    targets: dict[int, dict[str, list[int]]] = {
        place: dict.fromkeys(request["node_names"], request["job_ids"]) for place, request in enumerate(requests)
    }
    if asked:
        places, job_ids, reading = zip(*asked, strict=True)
        values = {"places": list(places), "job_ids": list(job_ids), "reading": list(reading)}
        with connection.begin():
            for row in connection.execute(FORWARD_TARGETS, values):
                targets[row.place].setdefault(row.node_name, []).extend(row.job_ids)
    messages: dict[str, list[Message]] = {}
    for place, request in enumerate(requests):
        for node, held in targets[place].items():
            add_message(messages.setdefault(node, []), request["kind"], held, request["payload"])
    return messages


def add_message(messages: list[Message], function: str, job_ids: Sequence[int], payload: Mapping[str, object]) -> None:
    """接在后面；与上一条是同样的请求时并进去：两万个 scancel 在一个节点上也只是一条消息。"""
    last = messages[-1] if messages else None
    if last is not None and last.function == function and {**last.payload, "job_ids": ()} == {**payload, "job_ids": ()}:
        held = last.payload["job_ids"]
        assert isinstance(held, list)
        held.extend(job_ids)
    else:
        messages.append(Message(function, {"job_ids": list(dict.fromkeys(job_ids)), **payload}))
