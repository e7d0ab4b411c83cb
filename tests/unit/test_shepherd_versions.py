"""新的代理接上旧的牧守进程：它不认得 launch_id，也不许因此启动不了作业。"""

import socket
import threading
from typing import Any

from scns_conductor.worker.agent.shepherd_client import ShepherdClient
from scns_conductor.worker.wire.frames import FrameBuffer, encode
from scns_conductor.worker.wire.launch_spec import LaunchSpec


def conversation(knows_launch_ids: bool) -> dict[str, dict[str, Any]]:
    """代理问候、启动、结束各一次；返回牧守进程收到的各个请求。"""
    ours, theirs = socket.socketpair()
    heard: dict[str, dict[str, Any]] = {}

    def shepherd() -> None:
        frames = FrameBuffer()
        while chunk := theirs.recv(65536):
            for message in frames.feed(chunk):
                heard[message["op"]] = message
                answer = {"id": message["id"], "ok": True, "launched": [], "found": []}
                theirs.sendall(encode({**answer, **({"launch_ids": True} if knows_launch_ids else {})}))

    thread = threading.Thread(target=shepherd, daemon=True)
    thread.start()
    client = ShepherdClient(ours)
    client.hello()
    client.launch([LaunchSpec(job_id=1, attempt=0, launch_id=5, step="batch", argv=["/bin/true"], env={}, cwd="/")])
    client.kill([(1, 0, 5)], cause="cancel")
    client.close()
    thread.join(timeout=10)
    theirs.close()
    return heard


def test_an_old_shepherd_hears_only_what_it_knows() -> None:
    heard = conversation(knows_launch_ids=False)
    assert "launch_id" not in heard["launch"]["specs"][0]
    assert heard["kill"]["jobs"] == [[1, 0]]


def test_a_new_shepherd_is_told_which_launch() -> None:
    heard = conversation(knows_launch_ids=True)
    assert heard["launch"]["specs"][0]["launch_id"] == 5
    assert heard["kill"]["jobs"] == [[1, 0, 5]]
