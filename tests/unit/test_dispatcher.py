"""送不出去的消息怎样说：几个节点、头几个，一次故障不是一个周期一行。"""

import pytest

from scns_conductor.worker.bus import Message
from scns_conductor.worker.scheduler.dispatcher import MOST_NAMED, Dispatcher


def test_a_thousand_nodes_are_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher("redis://127.0.0.1:1/0", lambda: None)
    message = Message("sync", {"job_ids": [1]})
    for most in (1000, 999, 998):
        dispatcher.send({f"node{number:04}": [message] for number in range(most)})
    dispatcher.close()
    [line] = [record for record in caplog.records if record.msg == "bus_unavailable"]
    told = vars(line)
    assert (told["nodes"], told["first"]) == (1000, [f"node{number:04}" for number in range(MOST_NAMED)])
    assert "SCNS_REDIS_URL" in told["error"]
