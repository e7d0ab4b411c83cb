"""演好的 HTTP 服务器：每来一条连接就照次序演一段；真的套接字。"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def serving(*behaviours: Callable[[socket.socket], None]) -> Iterator[str]:
    """每来一条连接就照次序演一段。"""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def play() -> None:
            for behaviour in behaviours:
                connection, _ = listener.accept()
                with connection:
                    behaviour(connection)

        thread = threading.Thread(target=play)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def answer_times(count: int) -> Callable[[socket.socket], None]:
    def behaviour(connection: socket.socket) -> None:
        for _ in range(count):
            read_request(connection)
            connection.sendall(http(b'{"good": true}'))

    return behaviour


def drop(connection: socket.socket) -> None:
    read_request(connection)
