"""连接与请求体：没有令牌的、只占着不说话的、说个没完的客户端，占不了内存，也挤不走别人。真的套接字，真的 API 进程。"""

import contextlib
import http.client
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from running_system import RunningSystem, second_api, wait_until
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token

HEADER_TIMEOUT_S = 2
MOST = 300
PER_ADDRESS = 200
MIB = 1024**2


@pytest.fixture(scope="module")
def system(shared_system: RunningSystem) -> Iterator[RunningSystem]:
    """时限与上限都小的 API。"""
    environment = {
        "SCNS_API_HEADER_TIMEOUT_S": str(HEADER_TIMEOUT_S),
        "SCNS_API_CONNECTIONS": str(MOST),
        "SCNS_API_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
    }
    with second_api(shared_system, environment) as running:
        yield running


def api_rss_mib(system: RunningSystem) -> float:
    """API 进程的常驻内存（MiB）。"""
    return int(Path(f"/proc/{system.process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def connect(system: RunningSystem, source: str = "127.0.0.1") -> socket.socket:
    address = urlsplit(system.url)
    assert address.port is not None
    return socket.create_connection(("127.0.0.1", address.port), timeout=30, source_address=(source, 0))


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def posting(system: RunningSystem, path: str, length: int | None, token: str | None = None) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    authorization = [] if token is None else [f"Authorization: Bearer {token}"]
    return head("POST", path, "Content-Type: application/json", size, *authorization)


def send_until_refused(sock: socket.socket, data: bytes, times: int) -> None:
    """一直送，直到送完或对方断开。"""
    try:
        for _ in range(times):
            sock.sendall(data)
    except OSError:
        pass


def answer_of(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """（状态码，头，正文）；对方没有回答就断了的是 (0, {}, b"")。"""
    response = http.client.HTTPResponse(sock)
    try:
        response.begin()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    except (http.client.HTTPException, OSError):
        return 0, {}, b""


def code_of(body: bytes) -> str:
    code: str = json.loads(body)["code"]
    return code


def alice(system: RunningSystem) -> str:
    return issue_token(Settings(data_dir=system.data_dir), "alice")


def test_a_body_without_a_token_is_refused_unread(system: RunningSystem) -> None:
    """三个没有令牌的连接各送 100 MiB，整长的、分块的、令牌是假的。"""
    before = api_rss_mib(system)
    megabyte = b" " * MIB
    chunk = b"%x\r\n%b\r\n" % (MIB, megabyte)
    with ExitStack() as stack:
        for path, length, token, data in (
            ("/jobs/submit", 40 * MIB, None, megabyte),
            ("/jobs/submit/batch", None, None, chunk),
            ("/jobs/submit/batch", 60 * MIB, "x.y.z", megabyte),
        ):
            sock = stack.enter_context(connect(system))
            sock.sendall(posting(system, path, length, token))
            # 还没有送正文就有回答。
            status, _, body = answer_of(sock)
            assert (status, code_of(body)[:6]) == (401, "token_")
            send_until_refused(sock, data, 100)
            assert api_rss_mib(system) - before < 40


def test_a_declared_body_beyond_the_limit_is_told_even_to_one_who_sends_it_all(system: RunningSystem) -> None:
    before = api_rss_mib(system)
    with connect(system) as sock:
        sock.sendall(posting(system, "/jobs/submit/batch", 80 * MIB, system.token))
        send_until_refused(sock, b" " * MIB, 80)
        status, _, body = answer_of(sock)
        assert (status, code_of(body)) == (413, "payload_too_large")
    with connect(system) as sock:
        sock.sendall(posting(system, "/jobs/submit", None, system.token))
        send_until_refused(sock, b"%x\r\n%b\r\n" % (MIB, b" " * MIB), 60)
        status, _, body = answer_of(sock)
        assert (status, code_of(body)) == (413, "payload_too_large")
    assert api_rss_mib(system) - before < 140


def test_bodies_in_flight_share_a_budget(system: RunningSystem) -> None:
    """缺省 128 MiB，一个用户一半：占住了的人再来是 503；别人的、平常大小的提交照旧；放开就又行。"""
    token = alice(system)
    with connect(system) as first, connect(system) as second, connect(system) as third:
        for sock, who in ((first, token), (second, token), (third, system.token)):
            sock.sendall(posting(system, "/jobs/submit/batch", 60 * MIB, who))
            sock.sendall(b'{"jobs": [')
        # 头两个谁先到谁占住，另一个被拒；第三个是别人的。
        answered, _, _ = select.select([first, second, third], [], [], 10)
        assert len(answered) == 1
        assert answered[0] in (first, second)
        status, headers, body = answer_of(answered[0])
        assert (status, code_of(body)) == (503, "too_many_bodies")
        assert int(headers["retry-after"]) > 0
        assert system.submit("true")

    def admitted_again() -> bool:
        with connect(system) as again:
            again.sendall(posting(system, "/jobs/submit/batch", 60 * MIB, token) + b'{"jobs": [')
            return not select.select([again], [], [], 0.5)[0]

    wait_until(admitted_again, 60, "断开的请求体交还了配额")


@pytest.mark.faults
def test_a_batch_of_56_mb_is_taken(system: RunningSystem) -> None:
    """一万个作业，脚本各五千多字节：收下，各有各的号；API 的内存至多涨请求体的五倍（docs/api.md）。"""
    job = {"name": "big-batch", "current_working_directory": "/tmp", "begin_time": "now+1day"}
    entry = {"job": job, "script": "#!/bin/sh\n#" + "x" * 5500 + "\n"}
    body = json.dumps({"jobs": [entry] * 10_000}).encode()
    assert len(body) > 56_000_000
    before = api_rss_mib(system)
    with connect(system) as sock:
        sock.settimeout(300)
        sock.sendall(posting(system, "/jobs/submit/batch", len(body), system.token) + body)
        status, _, answer = answer_of(sock)
    assert status == 200
    assert len(set(json.loads(answer)["job_ids"])) == 10_000
    assert api_rss_mib(system) - before < 5 * len(body) / MIB


def test_a_body_that_does_not_come_is_408(system: RunningSystem) -> None:
    with connect(system) as sock:
        sock.sendall(posting(system, "/jobs/submit", 1000, system.token) + b'{"script": ')
        status, _, body = answer_of(sock)
        assert (status, code_of(body)) == (408, "request_timeout")


def test_half_open_connections_are_dropped_and_starve_nobody(system: RunningSystem) -> None:
    """500 个只送半个头的连接，来自几个地址：期间别人照常有回答，到时全被断开。"""
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(system, f"127.0.0.{2 + index % 3}")) for index in range(500)]
        for sock in silent:
            try:
                sock.sendall(b"GET /jobs HTTP/1.1\r\nX-Slow: ")
            except OSError:
                continue
        for _ in range(20):
            assert system.call("GET", "/jobs?limit=1")[0] == 200
        # 一点一点地送也不能续命。
        drip = time.monotonic() + HEADER_TIMEOUT_S + 1
        while time.monotonic() < drip:
            for sock in silent[::50]:
                send_until_refused(sock, b"a", 1)
            time.sleep(0.2)
        outcomes = {answer_of(sock)[0] for sock in silent}
        assert outcomes <= {0, 408, 429, 503}
        assert 408 in outcomes
    assert system.call("GET", "/jobs?limit=1")[0] == 200


def test_one_address_has_its_own_limit(system: RunningSystem) -> None:
    with ExitStack() as stack:
        for _ in range(PER_ADDRESS):
            stack.enter_context(connect(system, "127.0.0.9"))
        one_more = stack.enter_context(connect(system, "127.0.0.9"))
        status, headers, body = answer_of(one_more)
        assert (status, code_of(body)) == (429, "too_many_connections")
        assert headers["content-type"] == "application/problem+json"
        assert system.call("GET", "/jobs?limit=1")[0] == 200

    def served_again() -> bool:
        with connect(system, "127.0.0.9") as sock:
            sock.sendall(head("GET", "/health/live"))
            return answer_of(sock)[0] == 200

    wait_until(served_again, 60, "断开的连接交还了名额")


@pytest.mark.parametrize(
    ("first", "line", "times", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\n", b"X-Many: 1\r\n", 1_000_000, 431),
        (b"GET /health/live HTTP/1.1\r\nX-Long: ", b"a" * 1000, 10_000, 431),
        (b"GET /health/live?", b"a" * 1000, 10_000, 431),
        (b"GET /health/live HTTP/1.1\r\n" + b"X-Few: 1\r\n" * 101, b"\r\n", 1, 431),
        (b"GET /health/live HTTP/1.1\r\n" + b"X-Few: 1\r\n" * 90, b"\r\n", 1, 200),
        (b"\x16\x03\x01\x02\x00", b"\r\n", 1, 400),
    ],
    ids=["百万行头", "没有尽头的一行", "没有尽头的地址", "一百零一行", "九十行", "不是 HTTP"],
)
def test_the_head_of_a_request_is_bounded(
    system: RunningSystem, first: bytes, line: bytes, times: int, status: int
) -> None:
    before = api_rss_mib(system)
    with connect(system) as sock:
        sock.sendall(first)
        for _ in range(max(1, times // 1000)):
            try:
                sock.sendall(line * min(times, 1000))
            except OSError:
                break
        found, headers, body = answer_of(sock)
        # 还在送的时候就断了，回答可能收不到。
        assert found in ({status, 0} if times > 1 else {status})
        if found >= 400:
            assert headers["content-type"] == "application/problem+json"
            assert json.loads(body)["status"] == status
    assert api_rss_mib(system) - before < 10


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "trailer", [b"0\r\nX-A: ", b"1\r\n \r\n0\r\nX-A: ", b"5;extension="], ids=["header", "after", "size"]
)
def test_what_follows_the_chunks_is_bounded_too(system: RunningSystem, known: bool, trailer: bytes) -> None:
    """分块的末尾的头没有尽头：解析器攒着它，一次比一次慢；认不认得出是谁都一样。"""
    before = api_rss_mib(system)
    with connect(system) as sock:
        sock.sendall(posting(system, "/jobs/submit", None, system.token if known else None) + trailer)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 64:
                sock.sendall(b"a" * MIB)
                sent += 1
    # 断开之前至多填满两边的套接字缓冲区。
    assert sent < 32
    assert api_rss_mib(system) - before < 20
    assert system.call("GET", "/jobs")[0] == 200


def test_a_followed_log_outlives_every_timeout(system: RunningSystem, tmp_path: Path) -> None:
    """等着的 SSE 没有时限。"""
    go = tmp_path / "go"
    job_id = system.submit(f"while [ ! -e {go} ]; do sleep 0.1; done; echo arrived\n")
    system.wait_state(job_id, "RUNNING")
    authorization = f"Authorization: Bearer {system.token}"
    with connect(system) as sock:
        sock.sendall(head("GET", f"/jobs/{job_id}/logs/stdout?follow=true", authorization))
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == 200
        time.sleep(HEADER_TIMEOUT_S * 2)
        go.touch()
        assert b'"state": "COMPLETED"' in response.read()


def test_a_connection_is_kept_between_requests(system: RunningSystem) -> None:
    """闲得比头的时限久也不断；被拒的请求体读掉之后照旧能用。"""
    address = urlsplit(system.url)
    client = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=30)
    client.connect()
    sock = client.sock
    client.request("POST", "/jobs/submit", body=b" " * 300_000, headers={"Content-Type": "application/json"})
    answer = client.getresponse()
    assert (answer.status, bool(answer.read())) == (401, True)
    for _ in range(2):
        client.request("GET", "/health/live")
        answer = client.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        assert client.sock is sock
        time.sleep(HEADER_TIMEOUT_S + 1)
    client.close()
