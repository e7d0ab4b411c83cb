"""错误即答案：带稳定的英文 code、HTTP 状态和中文说明的异常类型。

在知道原因的地方抛出，只在边缘（API、命令行）渲染一次；见 RFC 9457。
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


def first_line(error: BaseException) -> str:
    """一个错误的一行说明：驱动程序的原话（SQLAlchemy 包着的），没有话的是它的类型。"""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


class FieldError(NamedTuple):
    """一个字段的错误：field 是用户所写的字段路径，message 说明原因和补救办法。"""

    field: str
    message: str


class ConductorError(Exception):
    """所有业务错误的基类。

    code 是稳定的英文错误码；status 是 HTTP 状态码；detail 是给用户看的中文说明。
    """

    def __init__(
        self,
        detail: str,
        code: str = "conductor_error",
        status: int = 400,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # args 留着调用时写的：从别的进程回来（pickle）时照它再造一个。
        self.detail = detail
        self.code = code
        self.status = status
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return self.detail


class InvalidRequest(ConductorError):
    """请求里有字段不合法（422）。"""

    def __init__(self, field_name: str, message: str, code: str = "invalid_field") -> None:
        super().__init__(
            detail=f"{field_name}：{message}", code=code, status=422, errors=[FieldError(field_name, message)]
        )


class PayloadTooLarge(ConductorError):
    """请求体或脚本超过上限（413）。"""

    def __init__(self, detail: str, code: str = "payload_too_large") -> None:
        super().__init__(detail=detail, code=code, status=413)


class NotFound(ConductorError):
    """所指的东西不存在（404）。"""

    def __init__(self, detail: str, code: str = "not_found") -> None:
        super().__init__(detail=detail, code=code, status=404)


class Conflict(ConductorError):
    """当前状态不允许这个操作（409）。"""

    def __init__(self, detail: str, code: str = "conflict") -> None:
        super().__init__(detail=detail, code=code, status=409)


class Forbidden(ConductorError):
    """不是你的，或权限不够（403）。"""

    def __init__(self, detail: str, code: str = "forbidden") -> None:
        super().__init__(detail=detail, code=code, status=403)


class Unauthorized(ConductorError):
    """没有令牌，或令牌无效（401）。"""

    def __init__(self, detail: str, code: str = "unauthorized") -> None:
        super().__init__(detail=detail, code=code, status=401, headers={"WWW-Authenticate": "Bearer"})


class TooManyRequests(ConductorError):
    """一个用户同时要得太多（429），带 Retry-After（秒）。"""

    def __init__(self, detail: str, code: str = "too_many_requests", retry_after_s: int = 1) -> None:
        super().__init__(detail=detail, code=code, status=429, headers={"Retry-After": str(retry_after_s)})


class ServiceUnavailable(ConductorError):
    """依赖的服务暂时不在（503），带 Retry-After（秒）。"""

    def __init__(self, detail: str, code: str = "service_unavailable", retry_after_s: int = 2) -> None:
        super().__init__(detail=detail, code=code, status=503, headers={"Retry-After": str(retry_after_s)})


class SettingsError(ConductorError):
    """设置有误，进程不能启动。"""

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail, code="invalid_settings", status=500)
