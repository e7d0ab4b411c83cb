"""代理与牧守进程的连接：对方说的不成样子，同断了一样，当场知道；不是读的线程悄悄没了、人人等到期限。"""

import socket
import threading

import pytest

from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdGone
from scns_conductor.worker.wire.frames import encode


@pytest.mark.parametrize(
    "message",
    [
        {"event": "ends"},
        {"event": "ends", "ends": {"not": "a list"}},
        {"ok": True},
        {"id": "one", "ok": True},
        {"id": 1, "ok": "yes"},
    ],
)
def test_nonsense_is_the_end_of_the_connection(message: dict[str, object]) -> None:
    ours, theirs = socket.socketpair()
    gone = threading.Event()
    with ours, theirs:
        client = ShepherdClient(ours, on_gone=gone.set)
        theirs.sendall(encode(message))
        with pytest.raises(ShepherdGone):
            client.request("stats")
        assert gone.wait(60)


def test_what_is_not_known_is_left_out() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = ShepherdClient(ours)
        theirs.sendall(encode({"id": 1, "ok": True, "colour": "blue"}))
        assert client.request("stats")["colour"] == "blue"
