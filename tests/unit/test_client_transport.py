"""HTTP 的收发：长连接、断线、错误；对面是真的套接字。"""

import json
import select
import socket

import pytest

from scns_conductor.client import Problem, Unreachable
from scns_conductor.client.job_follow import ServerEvent, server_events
from scns_conductor.client.transport import Transport
from scns_conductor.client.wire import Times
from scripted_server import answer_times, drop, http, read_request, serving


def test_one_connection_serves_many_requests() -> None:
    with serving(answer_times(3)) as url:
        transport = Transport(url, "t")
        for _ in range(3):
            assert transport.request("GET", "/x").json() == {"good": True}
        transport.close()


def test_a_connection_closed_by_the_server_is_made_anew() -> None:
    with serving(answer_times(1), answer_times(1)) as url:
        transport = Transport(url)
        assert transport.request("POST", "/x", body={}).json()
        # 等到对面的关闭真的到了：关闭还在路上时送出的 POST 不能重送。
        assert select.select([transport._idle[0].sock], [], [], 10)[0]
        assert transport.request("POST", "/x", body={}).json()
        transport.close()


def test_what_may_have_been_done_is_not_sent_twice() -> None:
    def once_then_drop(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(http(b"{}"))
        read_request(connection)

    with serving(once_then_drop, answer_times(1), once_then_drop) as url:
        transport = Transport(url)
        transport.request("GET", "/x")
        # 带幂等键的可以重送。
        assert transport.request("POST", "/x", body={}, headers={"Idempotency-Key": "k"}).json()
        transport.close()
        transport.request("GET", "/x")
        with pytest.raises(Unreachable):
            transport.request("POST", "/x", body={})


def test_a_fresh_connection_that_breaks_is_unreachable() -> None:
    with serving(drop) as url, pytest.raises(Unreachable):
        Transport(url).request("GET", "/x")


def test_a_problem_tells_its_code_and_fields() -> None:
    body = {
        "detail": "有两处不对",
        "code": "invalid_field",
        "errors": [{"field": "job.a", "message": "不对"}, {"field": "job.b", "message": "也不对"}],
    }

    def refuse(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(http(json.dumps(body).encode(), "422 Unprocessable", "Retry-After: 3"))

    with serving(refuse) as url, pytest.raises(Problem) as caught:
        Transport(url).request("GET", "/x")
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (422, "invalid_field", 3)
    assert str(caught.value) == "job.a：不对；job.b：也不对"


def test_an_answer_of_something_else_is_still_a_problem() -> None:
    def refuse(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(http(b"<html>", "502 Bad Gateway"))

    with serving(refuse) as url, pytest.raises(Problem, match="502"):
        Transport(url).request("GET", "/x")


def test_nobody_listening_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unreachable, match=r"scns up"):
        Transport(url).request("GET", "/x")
    for bad in ("ftp://x", "http://:1", "http://a:b"):
        with pytest.raises(Unreachable):
            Transport(bad)


def test_server_events_are_parsed() -> None:
    lines = [
        b": ping\n",
        b"event: output\n",
        b'data: {"text": "a"}\n',
        b"\n",
        b"data: 1\n",
        b"data: 2\n",
        b"\r\n",
        b"da",
    ]
    events = list(server_events(lines))
    assert events == [ServerEvent("output", '{"text": "a"}'), ServerEvent("message", "1\n2")]
    assert events[0].output() == b"a"
    assert ServerEvent("output", '{"base64": "/w=="}').output() == b"\xff"


def unavailable(connection: socket.socket) -> None:
    read_request(connection)
    body = json.dumps({"detail": "忙", "code": "row_locked"}).encode()
    connection.sendall(http(body, "503 Service Unavailable", "Retry-After: 1", "Connection: close"))


def test_a_503_is_sent_again_as_retry_after_says() -> None:
    told: list[tuple[str, float]] = []
    with serving(unavailable, answer_times(1)) as url:
        transport = Transport(
            url, "t", times=Times(patience_s=30), on_wait=lambda problem, wait_s: told.append((problem.code, wait_s))
        )
        assert transport.request("POST", "/x", body={}, headers={"Idempotency-Key": "k"}).json() == {"good": True}
        transport.close()
    assert told == [("row_locked", 1.0)]


@pytest.mark.parametrize(("method", "patience_s"), [("GET", 0.0), ("GET", 0.5), ("POST", 30.0)])
def test_a_503_is_told_when_patience_is_short_or_sending_again_is_not_safe(method: str, patience_s: float) -> None:
    with serving(unavailable) as url, pytest.raises(Problem, match="忙"):
        Transport(url, "t", times=Times(patience_s=patience_s)).request(method, "/x")


def read_only(connection: socket.socket) -> None:
    read_request(connection)
    body = json.dumps({"detail": "只读", "code": "database_read_only"}).encode()
    connection.sendall(http(body, "503 Service Unavailable", "Retry-After: 0", "Connection: close"))


def test_a_503_that_certainly_changed_nothing_is_sent_again_whatever_the_method() -> None:
    """srun 建作业步的 POST 没有幂等键。"""
    with serving(read_only, answer_times(1)) as url:
        transport = Transport(url, "t", times=Times(patience_s=30))
        assert transport.request("POST", "/jobs/1/steps", body={}).json() == {"good": True}
        transport.close()
