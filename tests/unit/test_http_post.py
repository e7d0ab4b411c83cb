"""往外送的请求：到时候就断，谁先发觉都是同一句话。"""

import ipaddress
import socket

import pytest

from scns_conductor.worker.background import http_post

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize("who", ["插口的时限", "看着的"])
def test_a_silent_peer_is_told_as_too_slow_whoever_notices_first(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if who == "看着的":
        monkeypatch.setattr(http_post._Checked, "_wait", lambda _: None)
    else:
        monkeypatch.setattr(http_post._Checked, "abort", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError, match=r"^0\.2 秒里没有答完$"):
        http_post.post(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, b"{}", LOOPBACK, 0.2)
