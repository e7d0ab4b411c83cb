"""看板的测试共用的几个函数。"""

from collections.abc import Callable

from playwright.sync_api import Page

from running_system import RunningSystem
from scns_conductor.local.data_directory import DataDirectory, read_web_url

SignIn = Callable[..., Page]


def web_url_of(system: RunningSystem) -> str:
    """正在运行的系统的看板的地址。"""
    found = read_web_url(DataDirectory(system.data_dir))
    assert found is not None
    return found


def token_of(system: RunningSystem, user: str | None) -> str:
    """这个人的令牌；None 是启动系统的管理员。"""
    if user is None:
        return system.token
    status, answer = system.call("POST", "/tokens", {"user_name": user})
    assert status == 201, answer
    return str(answer["token"])
