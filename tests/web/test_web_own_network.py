"""别的测试加减网卡，不打断这里的浏览器。"""

import os
import socket

import pytest


@pytest.mark.skipif(os.geteuid() != 0, reason="要 root 才有自己的网络空间")
def test_only_the_loopback_is_seen(outside: list[str]) -> None:
    assert outside
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
