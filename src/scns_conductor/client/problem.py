"""客户端的错误：连不上、找不到系统、服务器的 problem JSON（RFC 9457）。"""

import json
from typing import Any


class ClientError(Exception):
    """客户端所有错误的基类；文字是一行中文，可直接给用户看。"""


class EndpointUnknown(ClientError):
    """不知道系统在哪里：没有 SCNS_URL，也没有 client.json。"""


class NotText(ClientError):
    """要送的里面有不是 UTF-8 的字节（参数、工作目录）：JSON 里写不了。"""


class Unreachable(ClientError):
    """连不上服务器，或连接中途断了。"""


class Problem(ClientError):
    """服务器拒绝了请求。code 是稳定的英文错误码；errors 是逐个字段的 {field, message}。"""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        title: str = "",
        errors: list[dict[str, str]] | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.title = title
        self.errors = errors or []
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __str__(self) -> str:
        if self.status >= 500 and self.request_id:
            return f"{self.detail}（X-Request-Id {self.request_id}）"
        if len(self.errors) < 2:
            return self.detail
        return "；".join(f"{item.get('field', '')}：{item.get('message', '')}" for item in self.errors)

    @classmethod
    def from_answer(cls, status: int, reason: str, body: bytes, retry_after: str | None) -> "Problem":
        """从 HTTP 回答构造，类型按错误码（见 client.problems）；正文不是 problem JSON（例如中间的代理）也能用。"""
        # 多数命令遇不到错误：用到才导入。
        from scns_conductor.client.problems import BY_CODE, BY_STATUS

        retry_after_s = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
        try:
            found: Any = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("detail"), str):
            return BY_STATUS.get(status, cls)(
                status, "http_error", f"服务器回答 {status} {reason}", reason, [], retry_after_s
            )
        errors = found.get("errors")
        code = str(found.get("code") or "http_error")
        return BY_CODE.get(code, BY_STATUS.get(status, cls))(
            status,
            code,
            found["detail"],
            str(found.get("title") or reason),
            [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else [],
            retry_after_s,
        )
