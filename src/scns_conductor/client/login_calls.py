"""登录与「我是谁」的端点。"""

from typing import TYPE_CHECKING

from scns_conductor.client.request import Json, Request, one

if TYPE_CHECKING:
    from scns_conductor.client.answers import DeviceAnswer, DeviceBegun, LoggedIn, LoginMethods, WhoAmI


class LoginCalls:
    """登录不要令牌。"""

    @one
    def whoami(self) -> "Request[WhoAmI]":
        """系统当你是谁，有什么权，令牌何时到期。"""
        return Request("GET", "/whoami")

    @one
    def login_methods(self) -> "Request[LoginMethods]":
        """能怎样登录。"""
        return Request("GET", "/auth/methods")

    @one
    def password_login(self, user_name: str, password: str, *, lifetime_s: int | None = None) -> "Request[LoggedIn]":
        """用户与口令换令牌；lifetime_s 是要用多久（秒）。不对抛 LoginFailed，失败太多抛 LoginSlowed。"""
        body: Json = {"user_name": user_name, "password": password}
        return Request("POST", "/auth/login", body=body | ({} if lifetime_s is None else {"lifetime_s": lifetime_s}))

    @one
    def begin_device_login(self, host: str) -> "Request[DeviceBegun]":
        """终端里登录：拿两个码，一个给人看，一个自己来问。"""
        return Request("POST", "/auth/device", body={"host": host})

    @one
    def device_token(self, device_code: str) -> "Request[DeviceAnswer]":
        """有没有批准；过期抛 NotFound，被拒绝抛 LoginDenied。"""
        return Request("POST", "/auth/device/token", body={"device_code": device_code})
