"""同步与异步的客户端对同样的服务器做同样的事：长连接、分块、断线、期限、Retry-After、跟随输出、取消。"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from scns_conductor.client import AsyncClient, Client, Problem, Unreachable
from scns_conductor.client.problems import JobNotFound, TokenExpired, Unavailable
from scripted_server import drop, http, read_request, serving

Play = Callable[[socket.socket], None]


class Sync:
    """在同步的客户端上做。"""

    def run(self, url: str, method: str, *words: Any, client: dict[str, Any] | None = None, **named: Any) -> Any:
        with Client(url, "t", **(client or {})) as made:
            found = getattr(made, method)(*words, **named)
            return list(found) if hasattr(found, "__next__") else found


class Async:
    """在异步的客户端上做。"""

    def run(self, url: str, method: str, *words: Any, client: dict[str, Any] | None = None, **named: Any) -> Any:
        async def go() -> Any:
            async with AsyncClient(url, "t", **(client or {})) as made:
                found = getattr(made, method)(*words, **named)
                return [each async for each in found] if hasattr(found, "__anext__") else await found

        return asyncio.run(go())


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Any:
    return request.param()


def says(found: Any, status: str = "200 OK", *headers: str) -> Play:
    def play(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(http(json.dumps(found).encode(), status, "Connection: close", *headers))

    return play


def test_a_chunked_answer_is_put_together(way: Any) -> None:
    def chunked(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"first ", b"second"):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")

    with serving(chunked) as url:
        assert way.run(url, "output", 7) == b"first second"


def test_an_answer_cut_short_is_unreachable(way: Any) -> None:
    def cut(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    with serving(cut) as url, pytest.raises(Unreachable):
        way.run(url, "output", 7)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 fine\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 << 20),
        b"",
    ],
    ids=["not http", "no status", "negative", "underscore", "bad chunk", "endless head", "nothing"],
)
def test_an_answer_that_is_not_http_is_unreachable(way: Any, answer: bytes) -> None:
    def odd(connection: socket.socket) -> None:
        read_request(connection)
        # 客户端看够了就断开，余下的送不出去。
        with contextlib.suppress(OSError):
            connection.sendall(answer)

    with serving(odd) as url, pytest.raises(Unreachable):
        way.run(url, "output", 7)


def test_an_answer_after_100_continue_and_until_the_end(way: Any) -> None:
    def informed(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nConnection: close\r\n\r\nall of it")

    with serving(informed) as url:
        assert way.run(url, "output", 7) == b"all of it"


def test_the_columns_of_a_list_are_put_together(way: Any) -> None:
    def page(rows: list[list[Any]], cursor: str | None) -> Play:
        return says({"fields": ["job_id", "state"], "jobs": rows, "next_cursor": cursor})

    pages = [page([["1", "PENDING"], ["2", "RUNNING"]], "c"), page([["3", "PENDING"]], None)]
    with serving(*pages) as url:
        found = way.run(url, "job_columns", fields="state")
    assert [{name: list(values) for name, values in each.items()} for each in found] == [
        {"job_id": ["1", "2"], "state": ["PENDING", "RUNNING"]},
        {"job_id": ["3"], "state": ["PENDING"]},
    ]


def test_a_connection_is_used_again_after_a_trailer_and_not_after_http_1_0(way: Any) -> None:
    def page(job_id: str, cursor: str | None) -> bytes:
        return json.dumps({"fields": ["job_id"], "jobs": [[job_id]], "next_cursor": cursor}).encode()

    def trailed(connection: socket.socket) -> None:
        read_request(connection)
        first = page("1", "c")
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(first), first))
        connection.sendall(b"0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n")
        read_request(connection)
        second = page("2", "d")
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(second), second))
        # 没有断开，可也不再听了。

    with serving(trailed, says(json.loads(page("3", None)))) as url:
        found = way.run(url, "job_columns", fields="")
    assert [list(each["job_id"]) for each in found] == [["1"], ["2"], ["3"]]


def test_a_problem_is_typed(way: Any) -> None:
    body = {"code": "job_not_found", "detail": "没有作业 7"}
    with serving(says(body, "404 Not Found", "X-Request-Id: r1")) as url, pytest.raises(JobNotFound) as caught:
        way.run(url, "job", 7)
    assert (caught.value.status, caught.value.request_id, str(caught.value)) == (404, "r1", "没有作业 7")


def test_retry_after_is_obeyed(way: Any) -> None:
    told: list[float] = []
    busy = says({"code": "row_locked", "detail": "忙"}, "503 Service Unavailable", "Retry-After: 1")
    options = {"patience_s": 30, "on_wait": lambda _, wait_s: told.append(wait_s)}
    with serving(busy, says({"job_id": "1"})) as url:
        assert way.run(url, "submit", {}, "true", client=options) == "1"
    assert told == [1.0]
    with serving(busy) as url, pytest.raises(Unavailable):
        way.run(url, "submit", {}, "true")


def test_a_submit_whose_answer_was_lost_is_sent_again_with_the_same_key(way: Any) -> None:
    keys: list[bytes] = []

    def keyed(answer: bytes) -> Play:
        def play(connection: socket.socket) -> None:
            head = read_request(connection)
            keys.append(next(line for line in head.split(b"\r\n") if line.lower().startswith(b"idempotency-key")))
            if answer:
                connection.sendall(http(answer))

        return play

    with serving(keyed(b""), keyed(b'{"job_id": "5"}')) as url:
        assert way.run(url, "submit", {}, "true", client={"reconnect_s": 30}) == "5"
    assert len(set(keys)) == 1
    assert len(keys) == 2


def test_what_may_have_been_done_is_not_sent_again(way: Any) -> None:
    # 取消没有幂等键，断了就说断了。
    with serving(drop) as url, pytest.raises(Unreachable):
        way.run(url, "hold", 7, client={"reconnect_s": 30})


def test_an_expired_token_is_renewed_and_the_request_sent_again(way: Any) -> None:
    sent: list[bytes] = []

    def told(*answer: Any) -> Play:
        def play(connection: socket.socket) -> None:
            sent.append(next(line for line in read_request(connection).split(b"\r\n") if b"Bearer" in line))
            connection.sendall(http(json.dumps(answer[0]).encode(), *answer[1:], "Connection: close"))

        return play

    tokens = iter(["old", "new", "new"])
    expired = told({"code": "token_expired", "detail": "过期了"}, "401 Unauthorized")
    with serving(expired, told({"job_id": "3", "state": "PENDING"}, "200 OK"), expired) as url:

        async def both() -> None:
            async with AsyncClient(url, lambda: next(tokens)) as client:
                await client.hold(3)
                assert client.token == "new"
                with pytest.raises(TokenExpired):
                    await client.hold(3)

        if isinstance(way, Async):
            asyncio.run(both())
        else:
            with Client(url, lambda: next(tokens)) as client:
                client.hold(3)
                assert client.token == "new"
                # 换不到新的就说出来，不会没完没了。
                with pytest.raises(TokenExpired):
                    client.hold(3)
    assert [line.split()[-1] for line in sent] == [b"old", b"new", b"new"]


def test_a_deadline_covers_every_attempt(way: Any) -> None:
    busy = says({"code": "row_locked", "detail": "忙"}, "503 Service Unavailable", "Retry-After: 60")
    with serving(busy) as url, pytest.raises(Unavailable):
        way.run(url, "job", 7, client={"patience_s": 3600, "deadline_s": 5})


def test_pages_come_one_after_another(way: Any) -> None:
    def page(rows: list[list[str]], cursor: str | None) -> Any:
        return {"fields": ["job_id", "state"], "jobs": rows, "next_cursor": cursor}

    first = says(page([["3", "PENDING"], ["2", "RUNNING"]], "c"))
    with serving(first, says(page([["1", "FAILED"]], None))) as url:
        found = way.run(url, "jobs", fields="state")
    assert [(job.job_id, job.state) for job in found] == [("3", "PENDING"), ("2", "RUNNING"), ("1", "FAILED")]


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def sse(asked: list[bytes], *parts: bytes) -> Play:
    def play(connection: socket.socket) -> None:
        asked.append(read_request(connection).split(b" ")[1])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for part in parts:
            connection.sendall(part)

    return play


def test_a_tail_goes_on_at_the_last_byte_after_a_broken_connection(way: Any) -> None:
    asked: list[bytes] = []
    broken = sse(asked, event("output", text="前"), b": ping\n", event("output", text="ab"), b"event: output\nda")
    rest = sse(asked, event("output", base64="/w=="), event("end", state="COMPLETED"))
    with serving(broken, rest) as url:
        assert b"".join(way.run(url, "tail", 7)) == "前ab".encode() + b"\xff"
    assert [path.endswith(b"offset=5") for path in asked] == [False, True]


def test_a_tail_goes_back_when_the_file_was_written_anew(way: Any) -> None:
    asked: list[bytes] = []
    broken = sse(asked, event("output", text="abcdef", offset=0), event("output", text="xy", offset=0))
    rest = sse(asked, event("output", text="z", offset=2), event("end", state="COMPLETED"))
    with serving(broken, rest) as url:
        assert b"".join(way.run(url, "tail", 7)) == b"abcdefxyz"
    assert [path.rpartition(b"=")[2] for path in asked] == [b"true", b"2"]


def test_a_follow_tells_that_it_broke(way: Any) -> None:
    with serving(sse([], event("output", text="a"))) as url, pytest.raises(Unreachable):
        way.run(url, "follow", 7)
    with (
        serving(sse([], event("error", code="node_silent", detail="读不到"))) as url,
        pytest.raises(Problem, match="读不到"),
    ):
        way.run(url, "follow", 7)


def test_many_jobs_are_submitted_in_batches(way: Any) -> None:
    sizes: list[int] = []

    def batch(first: int) -> Play:
        def play(connection: socket.socket) -> None:
            body = json.loads(read_request(connection).partition(b"\r\n\r\n")[2])
            sizes.append(len(body["jobs"]))
            ids = [str(first + index) for index in range(len(body["jobs"]))]
            connection.sendall(http(json.dumps({"job_ids": ids}).encode(), "200 OK", "Connection: close"))

        return play

    jobs = ({"job": {}, "script": f"exit {index}\n"} for index in range(5))
    with serving(batch(1), batch(3), batch(5)) as url:
        assert way.run(url, "submit_many", jobs, batch=2) == ["1", "2", "3", "4", "5"]
    assert sizes == [2, 2, 1]


def test_leaving_early_stops_the_page_on_its_way() -> None:
    """取到一半就走：先发出的下一页已经停下，连接关了，没有留下任务。"""
    reached = asyncio.Event()
    page = {"fields": ["job_id", "state"], "jobs": [["1", "FAILED"]], "next_cursor": "c"}
    loops: list[asyncio.AbstractEventLoop] = []

    def never(connection: socket.socket) -> None:
        read_request(connection)
        loops[0].call_soon_threadsafe(reached.set)
        assert connection.recv(1) == b""

    async def go(url: str) -> None:
        loops.append(asyncio.get_running_loop())
        async with AsyncClient(url, "t") as client:
            jobs = client.jobs(fields="state")
            assert (await anext(jobs)).job_id == "1"
            await reached.wait()
            await jobs.aclose()  # type: ignore[attr-defined]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with serving(says(page), never) as url:
        asyncio.run(go(url))


def test_a_cancelled_request_does_not_spoil_the_next_one() -> None:
    reached = asyncio.Event()

    async def go(url: str, loop_holder: list[Any]) -> Any:
        loop_holder.append(asyncio.get_running_loop())
        async with AsyncClient(url, "t") as client:
            slow = asyncio.create_task(client.job(1))  # type: ignore[arg-type]
            await reached.wait()
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            return await client.job(2)

    holder: list[Any] = []

    def never(connection: socket.socket) -> None:
        read_request(connection)
        holder[0].call_soon_threadsafe(reached.set)
        # 客户端取消之后关掉这条连接。
        assert connection.recv(1) == b""

    with serving(never, says({"job_id": "2"})) as url:
        assert asyncio.run(go(url, holder)).job_id == "2"
